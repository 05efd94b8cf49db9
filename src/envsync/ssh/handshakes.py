"""Limits concurrent handshakes per host, and retries dropped ones.

By default sshd drops connections at random once ten are unauthenticated (`MaxStartups 10:30:100`);
fifty servers behind one jump host are enough for that.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


class Dropped(Exception):
    """The server closed the connection before it knew the client: worth another try.

    `reason` is the exception to raise if there is none.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True)
class HandshakeLimiter:
    """Allows at most `at_once` handshakes per host in this process; shared by all links."""

    # Six leaves room below sshd's ten for other people and other processes.
    at_once: int = 6
    attempts: int = 5
    first_delay_seconds: float = 0.25
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    _slots: dict[tuple[str, int], threading.BoundedSemaphore] = field(
        default_factory=dict, init=False, repr=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def call(self, host: str, port: int, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns; if the last one is dropped, raise the reason."""
        dropped = 0
        while True:
            try:
                with self._slot(host, port):
                    return attempt()
            except Dropped as error:
                dropped += 1
                if dropped == self.attempts:
                    raise error.reason from None
            # Half to all of a delay that doubles, so that dropped clients spread out.
            longest_seconds = self.first_delay_seconds * 2 ** (dropped - 1)
            self.sleep(longest_seconds * (0.5 + self.jitter() / 2))

    @contextmanager
    def _slot(self, host: str, port: int) -> Iterator[None]:
        with self._lock:
            slot = self._slots.setdefault((host, port), threading.BoundedSemaphore(self.at_once))
        with slot:
            yield


SHARED_LIMITER = HandshakeLimiter()
