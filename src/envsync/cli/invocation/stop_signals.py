"""The signals that stop a command, and how their handler counts them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that stop a command as Ctrl-C does: `kill`, and a terminal that goes away."""
_SAME_END_SECONDS = 2.0


class Stopped(KeyboardInterrupt):
    """One of `STOP_SIGNALS` arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _alarm(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))


class Stopper:
    """The handler of the signals that stop a command.

    Pressing Ctrl-C twice counts as once: the second must not interrupt the clean-up that the first
    one started, such as removing the progress lines. If the command still runs 2 s after the first
    (the clean-up takes too long, or the first one was lost), the second is sent again.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        alarm: Callable[[float], None] = _alarm,
    ) -> None:
        """`alarm` is called with the number of seconds after which `again` is to be called."""
        self._clock = clock
        self._alarm = alarm
        self._last_seconds: float | None = None
        self._kept = 0

    def again(self, *_: object) -> None:
        """Send the second signal again, to the handler that it has by now."""
        os.kill(os.getpid(), self._kept)

    def __call__(self, number: int, _: FrameType | None) -> None:
        now = self._clock()
        if self._last_seconds is not None and now - self._last_seconds < _SAME_END_SECONDS:
            self._kept = number
            self._alarm(self._last_seconds + _SAME_END_SECONDS - now)
            return
        self._last_seconds = now
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(number)
