"""The simulated daemon that most of these tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.daemon.rows import IN_STEP
from tests.unit.daemon.simulation import SimulatedDaemon, new


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    """A simulated daemon with everything in step."""
    found = new(tmp_path, monkeypatch)
    found.later(60)
    assert found.states() == [IN_STEP] * 4
    yield found
    found.store.close()
