"""Copying from other trees into the staging tree, by several processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.operations.helper_work import carry_out
from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.staging import copying
from envsync.agent.staging.copying import Copying, CopySite
from envsync.agent.staging.writing import TreeWriter
from envsync.agent.trees.directory_read import open_directory
from envsync.tree.entry import FILE, Entry
from envsync.tree.steps import Copies, Copy, packed
from tests.support.processes import wait_until_alone

FILES = 700
MTIME_NS = 1_600_000_000_123_456_789


def content_of(number: int) -> bytes:
    return b"%d\n" % number * (50_000 if number == 7 else number)


class Place:
    """Two trees to copy from, and one to copy into."""

    def __init__(self, path: Path) -> None:
        self.staged = path / "staged"
        self.holdings = [path / "one", path / "two"]
        for tree in (self.staged, *self.holdings):
            for number in range(10):
                (tree / f"d{number}").mkdir(parents=True)
        for number in range(FILES):
            (self.holdings[number % 2] / self.name(number)).write_bytes(content_of(number))
        self.lock = path / "writers"
        self.lock.touch()
        self.writer = TreeWriter(open_directory(os.fsencode(self.staged)))

    @staticmethod
    def name(number: int) -> str:
        return f"d{number % 10}/file {number}\n"

    def copies(self) -> list[Copies]:
        return list(packed(sorted(self.each(), key=lambda copy: (copy.holding, copy.path))))

    def each(self) -> list[Copy]:
        found = []
        for number in range(FILES):
            content, path = content_of(number), os.fsencode(self.name(number))
            name, digest = path.split(b"/")[1], sha256(content).digest()
            entry = Entry(name, FILE, 0o750, len(content), MTIME_NS, digest)
            found.append(Copy(path, entry, number % 2, path))
        return found

    def copying(
        self, helpers: HelperProcesses, progress: Callable[[int], None] | None = None
    ) -> Copying:
        lock, staged = os.fsencode(self.lock), os.fsencode(self.staged)
        trees = list(map(os.fsencode, self.holdings))
        return Copying(CopySite(staged, self.writer, lock), trees, helpers, progress)

    def has_all(self) -> bool:
        """All with the right contents and stamps, vouched for as they are."""
        for number in range(FILES):
            path = self.staged / self.name(number)
            status = path.stat()
            vouched = self.writer.written.packed[os.fsencode(self.name(number))]
            expected = (0o100750, MTIME_NS, content_of(number))
            if (status.st_mode, status.st_mtime_ns, path.read_bytes()) != expected:
                return False
            if not vouched.startswith(status.st_ino.to_bytes(8, "little")):
                return False
        return True


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(copying, "FEW_FILES", 0)
    made = Place(tmp_path)
    yield made
    made.writer.close()
    os.close(made.writer.top_fd)


@pytest.fixture
def fork() -> Iterator[Callable[..., HelperProcesses]]:
    forked: list[HelperProcesses] = []

    def make(work: Callable[[Any], Any] = carry_out) -> HelperProcesses:
        wait_until_alone()
        forked.append(HelperProcesses.fork(work, caller_shares=False))
        return forked[-1]

    yield make
    for helpers in forked:
        helpers.close()


Fork = Callable[..., HelperProcesses]


def test_helpers_copy_as_one_alone(place: Place, fork: Fork) -> None:
    told: list[int] = []
    work = place.copying(fork(), told.append)
    work.run(place.copies())
    assert not work.failed
    assert place.has_all()
    assert sum(told) == sum(len(content_of(number)) for number in range(FILES))


def test_file_that_is_not_as_planned_is_not_copied(place: Place, fork: Fork) -> None:
    """Changed since the plan, and gone; so is a whole tree."""
    (place.holdings[0] / place.name(4)).write_bytes(content_of(4).upper().replace(b"4", b"5"))
    (place.holdings[0] / place.name(8)).unlink()
    place.holdings[1].rename(place.holdings[1].with_name("away"))
    work = place.copying(fork())
    work.run(place.copies())
    lacking = {os.fsencode(place.name(number)) for number in (4, 8, *range(1, FILES, 2))}
    assert {make.path for make in work.failed} == lacking
    assert not lacking & place.writer.written.packed.keys()
    assert not (place.staged / place.name(4)).exists(), "no wrong file is left"


def test_helpers_that_die_leave_nothing_undone(place: Place, fork: Fork) -> None:
    def die_at_the_second(request: tuple[str, Any]) -> object:
        asked.append(1)
        if len(asked) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return carry_out(request)

    asked: list[int] = []
    work = place.copying(fork(die_at_the_second))
    work.run(place.copies())
    assert not work.failed
    assert place.has_all()


def test_helper_of_a_killed_agent_writes_nothing_into_the_next_push(
    place: Place, fork: Fork
) -> None:
    """A helper whose agent was killed may get to its work when the next push has begun."""
    fd = os.open(place.lock, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    files = [(copy.source, copy.path, tuple(copy.entry)) for copy in place.each()[::2]]
    trees = os.fsencode(place.staged), os.fsencode(place.lock), os.fsencode(place.holdings[0])
    assert copying.copy_share((*trees, files)) is None
    os.close(fd)
    assert not list(place.staged.glob("*/*"))
    place.staged.rename(place.staged.with_name("of another push"))
    assert copying.copy_share((*trees, files)) is None


def test_a_full_disk_is_told(place: Place, fork: Fork) -> None:
    work = place.copying(fork(lambda _: ({}, [], errno.ENOSPC)))
    with pytest.raises(OSError, match="No space left"):
        work.run(place.copies())


def test_a_little_is_done_at_once(
    place: Place, fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "FEW_FILES", FILES)
    place.copying(fork(lambda _: os.kill(os.getpid(), signal.SIGKILL))).run(place.copies())
    assert place.has_all()
