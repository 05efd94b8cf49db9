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
from envsync.daemon.watch_points import watch_points
from envsync.daemon.watcher import INVENTORY, Watcher

MARK = "mark"
_EVENTS_MAX = Path("/proc/sys/fs/inotify/max_queued_events")


class Hints:
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

    def hinted(self, *expected: str) -> set[str]:
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
def hints(tmp_path: Path) -> Iterator[Hints]:
    found = Hints(tmp_path)
    yield found
    found.watcher.close()


def test_changes_that_installers_make_are_hints(hints: Hints) -> None:
    one, _ = hints.make("one"), hints.make("two")
    hints.watch("one", "two")
    for path in (
        "conda-meta/numpy-1.0-0.json",
        "bin/tool",
        "lib/libz.so",
        "lib/python3.11/site-packages/pure.py",
    ):
        (one / path).write_text("x")
        assert hints.hinted("one") == {"one"}, path
        hints.settle()
    (one / "lib/python3.11/site-packages/pure.py").unlink()
    assert hints.hinted("one") == {"one"}
    (one / "share/deep").mkdir(parents=True)
    hints.hinted("one")
    hints.settle()
    (one / "share/deep/file").write_text("x")  # for a rescan
    (one / "lib/python3.11/site-packages/__pycache__").mkdir()
    (hints.envs / "three").mkdir()  # none of their business
    assert hints.settle() == set()


def test_directories_that_are_replaced_or_new(hints: Hints) -> None:
    one = hints.make("one")
    hints.watch("one")
    packages = one / "lib/python3.11/site-packages"
    packages.rename(one / "aside")
    packages.mkdir()
    assert hints.hinted("one") == {"one"}
    hints.settle()
    (packages / "new.py").write_text("x")
    assert hints.hinted("one") == {"one"}, "the directory in its place is not watched"
    (one / "lib/python3.12/site-packages").mkdir(parents=True)  # conda installed another Python
    assert hints.hinted("one") == {"one"}
    hints.settle()
    (one / "lib/python3.12/site-packages/new.py").write_text("x")
    assert hints.hinted("one") == {"one"}


def test_an_environment_that_goes_comes_and_is_exchanged(hints: Hints) -> None:
    one, other = hints.make("one"), hints.make("other")
    hints.watch("one")
    shutil.rmtree(one)
    assert hints.hinted("one") == {"one"}
    hints.settle()
    hints.make("one")
    assert hints.hinted("one") == {"one"}
    hints.settle()
    (one / "conda-meta/history").write_text("x")
    assert hints.hinted("one") == {"one"}
    hints.settle()
    one.rename(hints.envs / "aside")
    other.rename(one)
    assert hints.hinted("one") == {"one"}
    hints.settle()
    (one / "bin/tool").write_text("x")
    assert hints.hinted("one") == {"one"}


@pytest.mark.parametrize("way", ["moved", "removed"])
def test_a_prefix_that_goes_and_comes(hints: Hints, way: str) -> None:
    """Inotify tells nothing of the directories above those that are watched; a look does."""
    one = hints.make("one")
    hints.watch("one")
    if way == "moved":
        hints.envs.rename(hints.envs.with_name("aside"))
    else:
        shutil.rmtree(hints.envs)
    hints.hinted()
    hints.watcher.poll()
    hints.hinted()
    hints.make("one"), hints.make(MARK)
    hints.watcher.poll()
    assert hints.hinted("one", MARK) == {"one"}
    hints.settle()
    (one / "bin/tool").write_text("x")
    assert hints.hinted("one") == {"one"}, "what came is not watched"
    hints.settle()
    hints.watcher.poll()
    assert hints.settle() == set()


def test_an_environment_that_is_a_link(hints: Hints, tmp_path: Path) -> None:
    hints.make("one").rename(tmp_path / "elsewhere")
    (hints.envs / "one").symlink_to(tmp_path / "elsewhere")
    hints.watch("one")
    (tmp_path / "elsewhere/bin/tool").write_text("x")
    assert hints.hinted("one") == {"one"}


@pytest.mark.parametrize("way", ["in-place", "rename", "link", "link-beside-it"])
def test_the_inventory_as_editors_write_it(hints: Hints, way: str) -> None:
    if way.startswith("link"):
        place = hints.inventory.parent if way == "link-beside-it" else hints.envs.parent / "real"
        place.mkdir(exist_ok=True)
        hints.inventory.rename(place / "real.yaml")
        hints.inventory.symlink_to(place / "real.yaml")
    hints.watch()
    for _ in range(2):
        file = hints.inventory.resolve()
        if way == "rename":
            new = file.with_name(".envsync.yaml.swp")
            new.write_text("two")
            new.rename(file)
        else:
            file.write_text("two")
        assert hints.hinted(INVENTORY) == {INVENTORY}
        hints.settle()
    (hints.inventory.parent / "notes.txt").write_text("x")
    assert hints.settle() == set()


def test_an_inventory_that_is_a_link_to_another_file_now(hints: Hints) -> None:
    beside, new = hints.inventory.parent, hints.inventory.with_name("new")
    hints.inventory.rename(beside / "1.yaml")
    hints.inventory.symlink_to("1.yaml")
    hints.watch()
    (beside / "2.yaml").write_text("two")
    new.symlink_to("2.yaml")
    assert hints.settle() == set()
    new.rename(hints.inventory)
    assert hints.hinted(INVENTORY) == {INVENTORY}
    hints.settle()
    (beside / "2.yaml").write_text("three")
    assert hints.hinted(INVENTORY) == {INVENTORY}
    hints.settle()
    (beside / "1.yaml").write_text("x")
    assert hints.settle() == set()


def test_events_that_inotify_lost(hints: Hints) -> None:
    """A real queue, which fills while nobody reads; the last thing in it says that it is full."""
    hints.make("one"), hints.make("two")
    others = hints.make("none of their business"), hints.make("nor this")
    hints.watch("one", "two")
    with hints.nobody_reads():
        for number in range(int(_EVENTS_MAX.read_text())):
            others[number % 2].chmod(0o755)  # twice of the same would be one event
        (hints.envs / "two/bin/tool").write_text("x")
    assert hints.hinted("one", "two", INVENTORY) == {"one", "two", INVENTORY}


def test_a_thread_of_watchdog_that_died(hints: Hints) -> None:
    one = hints.make("one")
    hints.watch("one")
    assert hints.watcher._inotify is not None
    hints.watcher._inotify.stop()
    hints.watcher._inotify.join(5)
    hints.watcher.poll()
    assert "one" in hints.hinted("one")
    (one / "bin/tool").write_text("x")
    assert hints.hinted("one") == {"one"}


def test_a_filesystem_of_other_machines_is_polled(
    hints: Hints, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hints.make("one")
    monkeypatch.setattr(module, "mount_of", lambda _: Mount("nfs4", b"/data"))
    hints.watch("one")
    assert "/data is nfs4" in hints.watcher.polled()["one"]
    hints.watcher.poll()
    (one / "conda-meta/history").write_text("x")
    hints.watcher.poll()
    assert hints.hinted("one") == {"one"}
    hints.watcher.poll()
    assert hints.settle() == set()


def test_about_ten_directories_are_watched(hints: Hints) -> None:
    one = hints.make("one")
    (one / "lib/python3.12/site-packages").mkdir(parents=True)
    assert len(watch_points(str(one))) == 9
