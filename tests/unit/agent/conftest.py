"""Fixtures of the agent's tests."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.agent.server import filesystem
from envsync.agent.trees.trees import Trees
from envsync.tree.local import LocalPaths
from tests.lab.namespaces import wait_until
from tests.support import disk
from tests.support.changes import TREE
from tests.support.pushes import Server


@pytest.fixture(autouse=True)
def _short_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kernel ticks are enough for the filesystems of test machines."""
    monkeypatch.setattr(filesystem, "FINE_MARGIN_SECONDS", 0.02)


@pytest.fixture
def top(tmp_path: Path) -> bytes:
    """A directory with `TREE` in it."""
    path = os.fsencode(tmp_path / "env")
    os.mkdir(path)
    disk.build(path, TREE)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "content")


@pytest.fixture
def looks(cache: str) -> Trees:
    return Trees(cache, LocalPaths())


@pytest.fixture
def server() -> Iterator[Server]:
    """A prefix in memory: every publish waits for the disk, and this one does not make it wait."""
    with tempfile.TemporaryDirectory(dir=memory()) as root:
        yield Server(Path(root))


def memory() -> str | None:
    """A directory in memory, or None for the usual place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def wait_until_alone() -> None:
    """Beside threads no helper is forked, and those of an earlier test may still be ending."""
    wait_until(lambda: threading.active_count() == 1, "only the main thread is there")
