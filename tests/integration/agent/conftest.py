"""The fixtures of the agent's unit tests: here whole pushes run in one process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from envsync.agent import filesystem
from tests.unit.agent.conftest import _short_margin, server, top

__all__ = ["_short_margin", "refuse_exchange", "server", "top", "written_to"]


def refuse_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on as on NFS or an old ZFS: `renameat2` takes no flags."""

    def refuse(source: bytes, target: bytes, flags: int) -> None:
        raise filesystem.ExchangeRefused(22, "Invalid argument")

    monkeypatch.setattr(filesystem, "_rename", refuse)


@contextlib.contextmanager
def written_to(path: bytes) -> Iterator[None]:
    """Somebody writes into a file that he had open, and does not stop."""
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        with open(path, "ab", buffering=0) as log:
            while not stop.is_set():
                log.write(b"x")
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    try:
        yield
    finally:
        stop.set()
        writer.join()
