"""The fixtures of the agent's unit tests, for whole pushes in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_fixtures import server, short_margin, top
from tests.support.disk import memory
from tests.support.interference import refuse_exchange

__all__ = ["each_way", "server", "short_margin", "top"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory, because the speed of a disk is not what is tested."""
    with tempfile.TemporaryDirectory(dir=memory()) as root:
        yield Path(root)


@pytest.fixture(params=["swapped", "linked"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test twice: with directories that are swapped, and with links instead."""
    if request.param == "linked":
        refuse_exchange(monkeypatch)
