"""What wakes the main loop."""

from __future__ import annotations

import os
import select
import signal

from envsync.daemon.wakeup import Wakeup


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup.fd], [], [], 0)[0])


def test_wake_makes_it_readable_until_signals_are_read() -> None:
    wakeup = Wakeup()
    assert not is_readable(wakeup)
    wakeup.wake()
    assert is_readable(wakeup)
    assert wakeup.signals() == ()
    assert not is_readable(wakeup)
    assert wakeup.signals() == ()


def test_a_full_pipe_is_no_error() -> None:
    wakeup = Wakeup()
    for _ in range(1 << 17):
        wakeup.wake()
    assert is_readable(wakeup)


def test_signals_are_told_and_their_handlers_restored() -> None:
    wakeup, before = Wakeup(), signal.getsignal(signal.SIGHUP)
    with wakeup.at_signals([signal.SIGHUP]):
        os.kill(os.getpid(), signal.SIGHUP)
        assert wakeup.signals() == (signal.SIGHUP,)
    assert signal.getsignal(signal.SIGHUP) == before
    assert signal.set_wakeup_fd(-1) == -1
