"""The start signal for a fan-out that was made ready ahead."""

from __future__ import annotations

import threading


class StartSignal:
    """Given once, waited for by many. Safe to share between threads."""

    def __init__(self) -> None:
        self._said = threading.Event()
        self.is_changed_since = False
        """Whether the source has changed after it was looked at ahead of the word."""

    def say(self, *, is_changed_since: bool) -> None:
        self.is_changed_since = is_changed_since
        self._said.set()

    def wait(self) -> None:
        self._said.wait()


AT_ONCE = StartSignal()
AT_ONCE.say(is_changed_since=False)
