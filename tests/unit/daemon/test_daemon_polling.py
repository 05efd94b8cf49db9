"""Where inotify cannot be had, environments are looked at now and then, and it is said why."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.daemon import watcher as module
from envsync.daemon.watcher import Watcher


def test_watcher_without_watchdog_7_polls_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAN_WATCH", False)
    (tmp_path / "envs/one/conda-meta").mkdir(parents=True)
    watcher = Watcher(lambda: None)
    watcher.watch({"one": str(tmp_path / "envs/one")}, str(tmp_path / "envsync.yaml"))
    assert "Python 3.11" in watcher.polled()["one"]
    watcher.poll()
    assert watcher.collect() == set()
    (tmp_path / "envs/one/conda-meta/numpy-1.0-0.json").write_text("{}")
    watcher.poll()
    assert watcher.collect() == {"one"}
    watcher.close()
