"""Collects the outcomes of several servers, in the order in which they were named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from envsync.cli.invocation.invocation import Invocation
    from envsync.push.request.places import Place

T = TypeVar("T")
ServerDocument = dict[str, Any]
OnKnown = Callable[[Sequence[ServerDocument]], None]


class InOrder(Generic[T]):
    """Reports all outcomes so far with each new one, so that none is lost if the command stops."""

    def __init__(
        self, servers: Sequence[str], document: Callable[[T], ServerDocument], on_known: OnKnown
    ) -> None:
        """`on_known` gets the `document` of each outcome so far, in the order of `servers`.

        It is called in the thread that adds an outcome, never in two at once.
        """
        self._servers = servers
        self._document = document
        self._on_known = on_known
        self._known: dict[str, ServerDocument] = {}
        self._lock = threading.Lock()

    def add(self, server: str, outcome: T) -> None:
        """Add a server's outcome; may be called from any thread."""
        document = self._document(outcome)
        with self._lock:
            self._known[server] = document
            self._on_known([self._known[name] for name in self._servers if name in self._known])


def servers_in(
    invocation: Invocation, places: Sequence[Place], document: Callable[[T], ServerDocument]
) -> InOrder[T]:
    """Return a collector that keeps `servers` in the invocation's result up to date."""
    result = invocation.result = {**(invocation.result or {}), "servers": ()}

    def know(documents: Sequence[ServerDocument]) -> None:
        result["servers"] = documents

    return InOrder([place.server for place in places], document, know)
