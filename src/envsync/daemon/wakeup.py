"""Wakes the main loop from other threads, and at signals."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator

_READ_BYTES = 4096


class Wakeup:
    """A pipe whose `fd` becomes readable when `wake` is called or a signal arrives."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> None:
        """Make `fd` readable. Safe to call from any thread."""
        with contextlib.suppress(OSError):  # a full pipe wakes the loop anyway
            os.write(self._write_fd, b"\0")

    def signals(self) -> tuple[int, ...]:
        """Return the signals since the last call, after which `fd` is not readable any more."""
        with contextlib.suppress(BlockingIOError):
            return tuple(filter(None, os.read(self.fd, _READ_BYTES)))
        return ()

    @contextlib.contextmanager
    def at_signals(self, numbers: Collection[signal.Signals]) -> Iterator[None]:
        """Have these signals do nothing but wake the loop. Call it in the main thread."""
        # In this order: a signal that only a handler took would be lost.
        earlier_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        earlier = {number: signal.signal(number, lambda *_: None) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(earlier_fd)
