"""Hints from real directories: none is lost, and what inotify loses is a hint, too."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("watchdog 7 needs Python 3.11", allow_module_level=True)
from envsync.agent.server.filesystem import Mount
from envsync.daemon import watcher as module
from envsync.daemon.watch_points import telltales
from envsync.daemon.watcher import INVENTORY, Watcher

MARK = "mark"
_EVENTS_MAX = Path("/proc/sys/fs/inotify/max_queued_events")


class Told:
    """A watcher, and what it has told."""

    def __init__(self, top: Path) -> None:
        self.envs = top / "envs"
        self.inventory = top / "etc" / "envsync.yaml"
        self.inventory.parent.mkdir()
        self.inventory.write_text("one")
        self._woken = threading.Event()
        self._may_read = threading.Event()
        self._may_read.set()
        self.watcher = Watcher(self._wake)
        self._marks = 0
        self.make(MARK)

    def _wake(self) -> None:
        """Called by watchdog's thread, which reads nothing meanwhile."""
        self._woken.set()
        assert self._may_read.wait(30)

    @contextlib.contextmanager
    def nobody_reads(self) -> Iterator[None]:
        """Within, what inotify tells stays in the kernel's queue; after it, nothing is told yet."""
        self._may_read.clear()
        self._woken.clear()
        self.inventory.write_text("two")
        assert self._woken.wait(10), "watchdog's thread was not told"
        try:
            yield
        finally:
            self.watcher.collect()
            self._may_read.set()

    def make(self, name: str, python: str = "python3.11") -> Path:
        environment = self.envs / name
        for path in ("conda-meta", "bin", f"lib/{python}/site-packages"):
            (environment / path).mkdir(parents=True)
        return environment

    def watch(self, *names: str) -> None:
        watched = {name: str(self.envs / name) for name in (*names, MARK)}
        self.watcher.watch(watched, str(self.inventory))
        self.settle()

    def settle(self) -> set[str]:
        """All that is told of what has happened so far, and that nobody has heard yet.

        What happens in another environment now is told after it: inotify keeps the order.
        """
        if MARK in self.watcher.polled():
            return self.watcher.collect()
        found = self.watcher.collect()
        self._marks += 1
        (self.envs / MARK / f"bin/{self._marks}").mkdir()
        return (found | self._until({MARK})) - {MARK}

    def told(self, *expected: str) -> set[str]:
        """What is told, once that is as much as is expected. Watches what is there by then."""
        return self._until(set(expected)) - {MARK}

    def _until(self, expected: set[str]) -> set[str]:
        found: set[str] = set()
        for _ in range(100):
            self._woken.wait(0.1)
            self._woken.clear()
            collected = self.watcher.collect()
            self.watcher.refresh(collected)
            found |= collected
            if found >= expected:
                break
        return found


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    found = Told(tmp_path)
    yield found
    found.watcher.close()


def test_what_installers_do(told: Told) -> None:
    one, _ = told.make("one"), told.make("two")
    told.watch("one", "two")
    for path in (
        "conda-meta/numpy-1.0-0.json",
        "bin/tool",
        "lib/libz.so",
        "lib/python3.11/site-packages/pure.py",
    ):
        (one / path).write_text("x")
        assert told.told("one") == {"one"}, path
        told.settle()
    (one / "lib/python3.11/site-packages/pure.py").unlink()
    assert told.told("one") == {"one"}
    (one / "share/deep").mkdir(parents=True)
    told.told("one")
    told.settle()
    (one / "share/deep/file").write_text("x")  # for a rescan
    (one / "lib/python3.11/site-packages/__pycache__").mkdir()
    (told.envs / "three").mkdir()  # none of their business
    assert told.settle() == set()


def test_directories_that_are_replaced_or_new(told: Told) -> None:
    one = told.make("one")
    told.watch("one")
    packages = one / "lib/python3.11/site-packages"
    packages.rename(one / "aside")
    packages.mkdir()
    assert told.told("one") == {"one"}
    told.settle()
    (packages / "new.py").write_text("x")
    assert told.told("one") == {"one"}, "the directory in its place is not watched"
    (one / "lib/python3.12/site-packages").mkdir(parents=True)  # conda installed another Python
    assert told.told("one") == {"one"}
    told.settle()
    (one / "lib/python3.12/site-packages/new.py").write_text("x")
    assert told.told("one") == {"one"}


def test_an_environment_that_goes_comes_and_is_exchanged(told: Told) -> None:
    one, other = told.make("one"), told.make("other")
    told.watch("one")
    shutil.rmtree(one)
    assert told.told("one") == {"one"}
    told.settle()
    told.make("one")
    assert told.told("one") == {"one"}
    told.settle()
    (one / "conda-meta/history").write_text("x")
    assert told.told("one") == {"one"}
    told.settle()
    one.rename(told.envs / "aside")
    other.rename(one)
    assert told.told("one") == {"one"}
    told.settle()
    (one / "bin/tool").write_text("x")
    assert told.told("one") == {"one"}


def test_an_environment_that_is_a_link(told: Told, tmp_path: Path) -> None:
    told.make("one").rename(tmp_path / "elsewhere")
    (told.envs / "one").symlink_to(tmp_path / "elsewhere")
    told.watch("one")
    (tmp_path / "elsewhere/bin/tool").write_text("x")
    assert told.told("one") == {"one"}


@pytest.mark.parametrize("way", ["in-place", "rename", "link"])
def test_the_inventory_as_editors_write_it(told: Told, way: str) -> None:
    if way == "link":
        (told.envs.parent / "real").mkdir()
        told.inventory.rename(told.envs.parent / "real" / "envsync.yaml")
        told.inventory.symlink_to(told.envs.parent / "real" / "envsync.yaml")
    told.watch()
    for _ in range(2):
        file = told.inventory.resolve()
        if way == "rename":
            new = file.with_name(".envsync.yaml.swp")
            new.write_text("two")
            new.rename(file)
        else:
            file.write_text("two")
        assert told.told(INVENTORY) == {INVENTORY}
        told.settle()
    (told.inventory.parent / "notes.txt").write_text("x")
    assert told.settle() == set()


def test_events_that_inotify_lost(told: Told) -> None:
    """A real queue, which fills while nobody reads; the last thing in it says that it is full."""
    told.make("one"), told.make("two")
    others = told.make("none of their business"), told.make("nor this")
    told.watch("one", "two")
    with told.nobody_reads():
        for number in range(int(_EVENTS_MAX.read_text())):
            others[number % 2].chmod(0o755)  # twice of the same would be one event
        (told.envs / "two/bin/tool").write_text("x")
    assert told.told("one", "two", INVENTORY) == {"one", "two", INVENTORY}


def test_a_thread_of_watchdog_that_died(told: Told) -> None:
    one = told.make("one")
    told.watch("one")
    assert told.watcher._inotify is not None
    told.watcher._inotify.stop()
    told.watcher._inotify.join(5)
    told.watcher.refresh([])
    assert "one" in told.told("one")
    (one / "bin/tool").write_text("x")
    assert told.told("one") == {"one"}


def test_a_filesystem_of_other_machines_is_polled(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = told.make("one")
    monkeypatch.setattr(module, "mount_of", lambda _: Mount("nfs4", "/data", ()))
    told.watch("one")
    assert "/data is nfs4" in told.watcher.polled()["one"]
    told.watcher.poll()
    (one / "conda-meta/history").write_text("x")
    told.watcher.poll()
    assert told.told("one") == {"one"}
    told.watcher.poll()
    assert told.settle() == set()


def test_about_ten_directories_are_watched(told: Told) -> None:
    one = told.make("one")
    (one / "lib/python3.12/site-packages").mkdir(parents=True)
    assert len(telltales(str(one))) == 9
