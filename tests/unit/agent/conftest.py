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
    """Set the timestamp margin to two kernel ticks, enough for test machines' filesystems."""
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
    """A server with its prefix in memory, where publishing need not wait for a disk."""
    with tempfile.TemporaryDirectory(dir=memory()) as root:
        yield Server(Path(root))


def memory() -> str | None:
    """Return a directory in memory, or None if there is none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def wait_until_alone() -> None:
    """Wait for the threads of earlier tests to end, because with threads no helper is forked."""
    wait_until(lambda: threading.active_count() == 1, "only the main thread is there")
