"""The simulated daemon that most of these tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.daemon.rows import IN_STEP
from tests.unit.daemon.simulation import SimulatedDaemon, StartDaemon, simulated_daemon


@pytest.fixture
def start_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartDaemon]:
    """Starts a simulated daemon with what the one before it has stored; ends all of them."""
    with contextlib.ExitStack() as stack:

        def start(*unfinished: str) -> SimulatedDaemon:
            found = simulated_daemon(tmp_path, monkeypatch, unfinished)
            stack.callback(found.store.close)
            return found

        yield start


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> SimulatedDaemon:
    """A simulated daemon with everything in step."""
    found = start_daemon()
    found.later(60)
    assert found.states() == [IN_STEP] * 4
    return found
