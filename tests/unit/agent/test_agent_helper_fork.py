"""A signal that arrives while a helper is begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable

import pytest

from envsync.agent.server.helper_processes import HelperProcesses


def test_signal_that_arrives_before_a_fork_leaves_no_signal_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command that was stopped then ended by itself, with 143, and not by SIGTERM."""
    true_sigmask = signal.pthread_sigmask

    def handled(how: int, mask: Iterable[int]) -> object:
        before = true_sigmask(how, mask)
        if how == signal.SIG_BLOCK and list(mask):
            raise KeyboardInterrupt
        return before

    before = true_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(signal, "pthread_sigmask", handled)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    try:
        with pytest.raises(KeyboardInterrupt):
            HelperProcesses.fork(print, caller_shares=False)
        assert true_sigmask(signal.SIG_BLOCK, ()) == before
    finally:
        true_sigmask(signal.SIG_SETMASK, before)
