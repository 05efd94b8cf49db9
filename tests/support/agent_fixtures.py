"""Fixtures of the agent's tests, for the conftests that import them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.agent.server import filesystem
from tests.support import disk
from tests.support.changes import TREE
from tests.support.disk import memory
from tests.support.pushes import Server

_CLOCK_REALTIME_COARSE = 5
TICK_SECONDS = time.clock_getres(_CLOCK_REALTIME_COARSE)
"""The kernel's, by which filesystems stamp: 1 to 10 ms."""


@pytest.fixture(autouse=True)
def short_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the timestamp margin to two kernel ticks, enough for test machines' filesystems."""
    monkeypatch.setattr(filesystem, "FINE_MARGIN_SECONDS", 2 * TICK_SECONDS)


@pytest.fixture
def top(tmp_path: Path) -> bytes:
    """A directory with `TREE` in it."""
    path = os.fsencode(tmp_path / "env")
    os.mkdir(path)
    disk.build(path, TREE)
    return path


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with its prefix in memory, where publishing need not wait for a disk."""
    with tempfile.TemporaryDirectory(dir=memory()) as root:
        yield Server(Path(root))
