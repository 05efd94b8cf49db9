"""What comes of several servers at once, in the order in which they were named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
OnKnown = Callable[[Sequence[T]], None]


class InOrder(Generic[T]):
    """Tells what is known so far with each that comes: whatever ends the command, it was done."""

    def __init__(self, servers: Sequence[str], on_known: OnKnown[T]) -> None:
        """`on_known` is called by whoever adds one, never by two threads at once."""
        self._servers = servers
        self._on_known = on_known
        self._known: dict[str, T] = {}
        self._lock = threading.Lock()

    def add(self, server: str, one: T) -> None:
        """May be called from any thread."""
        with self._lock:
            self._known[server] = one
            self._on_known([self._known[name] for name in self._servers if name in self._known])
