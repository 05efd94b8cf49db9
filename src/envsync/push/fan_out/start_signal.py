"""The start signal for a fan-out that was prepared ahead of time."""

from __future__ import annotations

import threading


class StartSignal:
    """A signal that is given once and awaited by many. Safe to share between threads."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._is_changed_since = False

    def give(self, *, is_changed_since: bool) -> None:
        """Let `wait` return whether the source has changed since it was inspected ahead."""
        self._is_changed_since = is_changed_since
        self._given.set()

    def wait(self) -> bool:
        self._given.wait()
        return self._is_changed_since
