"""The start signal for a fan-out that was prepared ahead of time."""

from __future__ import annotations

import threading


class StartSignal:
    """A signal that is given once and awaited by many. Safe to share between threads."""

    def __init__(self) -> None:
        self._said = threading.Event()
        self.is_changed_since = False
        """Whether the source has changed since it was inspected ahead of the signal."""

    def say(self, *, is_changed_since: bool) -> None:
        self.is_changed_since = is_changed_since
        self._said.set()

    def wait(self) -> None:
        self._said.wait()


AT_ONCE = StartSignal()
AT_ONCE.say(is_changed_since=False)
