"""Hashing many files: in this process and in workers, with the same answers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pytest

from envsync.agent.server.processes import processes_using
from envsync.agent.trees import hashing
from envsync.agent.trees.directory_read import open_directory, opened_directory
from envsync.agent.trees.file_hash import MISSING, READ_BYTES
from envsync.agent.trees.hashing import Hashing
from envsync.agent.trees.listing_build import ListingBuild
from envsync.agent.trees.open_tree import OpenTree
from envsync.agent.trees.scan import scan
from envsync.agent.trees.stat_rows import Row, pack, unpack
from envsync.agent.trees.unhashed import Unhashed
from envsync.agent.trees.written_digests import NO_WRITTEN_DIGESTS
from envsync.errors import AgentFailed
from envsync.tree.entry import join, split
from envsync.tree.local import LocalPaths
from envsync.tree.revision import combine, revision_of
from tests.support import disk
from tests.support.trees import file, manifest_of, with_parents

Parts = list[Unhashed]
KNOWN = b"k" * 32

CONTENTS = {
    b"empty": b"",
    b"small": b"x",
    b"one block": bytes(READ_BYTES),
    b"a byte more": bytes(READ_BYTES + 1),
    b"several": os.urandom(3 * READ_BYTES + 17),
    b"\xff\xfe\n odd/1": b"name",
    b"123/2": b"looks like an inode",
}
DIGESTS = {path: hashlib.sha256(data).digest() for path, data in CONTENTS.items()}


@pytest.fixture
def top_fd(tmp_path: Path) -> Iterator[int]:
    for path, content in CONTENTS.items():
        real = tmp_path / os.fsdecode(path)
        real.parent.mkdir(exist_ok=True)
        real.write_bytes(content)
    fd = open_directory(os.fsencode(tmp_path))
    yield fd
    os.close(fd)


@pytest.fixture(params=["here", "in workers"])
def parallel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "processors", lambda: 1 if request.param == "here" else 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)


def inodes_of(top_fd: int) -> dict[bytes, int]:
    return {path: os.stat(path, dir_fd=top_fd).st_ino for path in CONTENTS}


def parts(paths: Iterable[bytes], inodes: Mapping[bytes, int] = MappingProxyType({})) -> Parts:
    """These paths as what is to be hashed: each file has a size of 1, and inode 1 if not given."""
    names: dict[bytes, list[bytes]] = {}
    for path in sorted(paths):
        directory, name = split(path)
        names.setdefault(directory, []).append(name)
    return [_part(directory, found, inodes) for directory, found in names.items()]


def _part(directory: bytes, names: list[bytes], inodes: Mapping[bytes, int]) -> Unhashed:
    """With a row of a directory before them, and one of a file that has its digest."""
    mode, numbers = stat.S_IFREG | 0o644, [inodes.get(join(directory, name), 1) for name in names]
    rows = [Row(b"\1", stat.S_IFDIR, 1, 1, 0, 0, 1), Row(b"\2", mode, 1, 1, 0, 0, 1)]
    rows += [Row(name, mode, inode, 1, 0, 0, 1) for name, inode in zip(names, numbers, strict=True)]
    digests = bytearray(MISSING + KNOWN + MISSING * len(names))
    return Unhashed(directory, pack(rows), digests, len(names), len(names))


def found_in(hashed: Parts) -> dict[bytes, bytes]:
    """The digests by path, without what was known and what is no file."""
    found: dict[bytes, bytes] = {}
    for part in hashed:
        assert part.contents()[:2] == [MISSING, KNOWN]
        paths = [join(part.directory, row.name) for row in unpack(part.rows)]
        found.update(zip(paths[2:], part.contents()[2:], strict=True))
    return found


def hashed(
    top_fd: int, paths: Iterable[bytes], inodes: Mapping[bytes, int] = MappingProxyType({})
) -> dict[bytes, bytes]:
    wanted = parts(paths, {**inodes_of(top_fd), **inodes})
    Hashing().files(top_fd, wanted)
    return found_in(wanted)


@pytest.mark.usefixtures("parallel")
def test_digests_are_sha256(top_fd: int) -> None:
    told: list[int] = []
    wanted = parts(CONTENTS, inodes_of(top_fd))
    Hashing().files(top_fd, wanted, told.append)
    assert found_in(wanted) == DIGESTS
    assert sum(told) == len(CONTENTS), "bytes as they are in the rows"


@pytest.mark.usefixtures("parallel")
def test_file_that_cannot_be_read_has_no_digest(top_fd: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.symlink("small", tmp_path / "link")
    bad = [b"gone", b"gone/below", b"link", b"pipe/x", b"x" * 300, b"y/" * 3000 + b"y"]
    found = hashed(top_fd, [*bad, b"small"])
    assert [found[path] for path in bad] == [MISSING] * len(bad)
    assert found[b"small"] == DIGESTS[b"small"]


@pytest.mark.usefixtures("parallel")
def test_file_of_another_inode_has_no_digest(top_fd: int, tmp_path: Path) -> None:
    inode = os.stat(tmp_path / "small").st_ino
    for number, digest in ((inode, DIGESTS[b"small"]), (inode + 1, MISSING)):
        assert hashed(top_fd, [b"small"], {b"small": number}) == {b"small": digest}


@pytest.mark.usefixtures("parallel")
@pytest.mark.parametrize(
    ("inode", "read_inode", "is_taken"),
    [
        pytest.param(7, 7, True, id="the file"),
        pytest.param(8, 7, False, id="another file"),
    ],
)
def test_file_that_was_read_meanwhile_is_not_read_again(
    top_fd: int, inode: int, read_inode: int, is_taken: bool
) -> None:
    path, expected = b"\xff\xfe\n odd/1", os.urandom(32) if is_taken else MISSING
    hashing = Hashing()
    with hashing.reading() as on_read:
        on_read(path, read_inode, expected)
        on_read(b"123/other", 1, bytes(32))
    wanted = parts([b"small", path], {**inodes_of(top_fd), path: inode})
    hashing.files(top_fd, wanted)
    assert found_in(wanted) == {b"small": DIGESTS[b"small"], path: expected}


def test_file_that_is_read_between_two_batches_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two batches of one directory."""
    monkeypatch.setattr(hashing, "is_full", lambda files, _: files == 2)
    work, names = Hashing(), [b"empty", b"one block", b"several", b"small"]
    [part] = wanted = parts(names)
    batches = work._batches(wanted)
    first = next(batches)
    with work.reading() as on_read:
        for name in names[1:]:
            on_read(name, 1, b"%-32s" % name)
    assert [item.name for item in first] == names[:2]
    assert list(batches) == []
    assert part.contents()[-2:] == [b"%-32s" % name for name in names[2:]]


def test_the_largest_come_first() -> None:
    mode = stat.S_IFREG | 0o644
    rows = pack([Row(b"%d" % size, mode, 1, size, 0, 0, 1) for size in (3, 5, 9)])
    part = Unhashed(b"", rows, bytearray(3 * MISSING), 3, 17)
    assert [item.size_bytes for item in part.items()] == [9, 5, 3]


@pytest.mark.parametrize("name_bytes", [1, 200])
def test_a_worker_that_dies_is_an_error_and_no_answer(
    name_bytes: int, top_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has read what it was asked, or afterwards."""
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)
    monkeypatch.setattr(hashing, "_WORKER_CODE", "os.kill(os.getpid(), 9)")
    with pytest.raises(AgentFailed, match="exit status -9") as failed:
        hashed(top_fd, [b"%0*d" % (name_bytes, number) for number in range(2000)])
    assert failed.value.hint


def test_a_worker_is_no_process_that_uses_the_environment(
    top_fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the agent that started it: a push would wait for a `verify`, or be refused."""
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)
    found: list[object] = []

    def look(_: int) -> None:
        found.append(processes_using([os.fsencode(tmp_path)], os.fsencode(tmp_path / "writers")))

    Hashing().files(top_fd, parts(CONTENTS, inodes_of(top_fd)), look)
    assert found
    assert not any(found)


def test_preparation_waits_for_all_that_go_first() -> None:
    """One of whom ends in another thread than it began in, as a sender does."""
    work = Hashing()
    sender, outline = contextlib.ExitStack(), contextlib.ExitStack()
    sender.enter_context(work.going_first())
    outline.enter_context(work.going_first())
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(work.give_way)
        outline.close()
        pool.submit(outline.close).result()
        assert not waiting.done()
        pool.submit(sender.close).result()
        waiting.result(timeout=10)
    work.give_way()


def test_a_directory_that_was_read_through_is_given_at_once(top_fd: int) -> None:
    """While others are still being read; what was not read is hashed at the end."""
    paths, small = [b"123/2", b"empty", b"small", b"\xff\xfe\n odd/1"], inodes_of(top_fd)[b"small"]
    work, wanted = Hashing(), parts(paths, {b"small": small})
    given = work.each(top_fd, wanted)
    with work.reading() as on_read:
        on_read(b"123/2", 1, b"%-32s" % b"read")
        on_read(b"empty", 1, b"%-32s" % b"read")
        assert next(given).directory == b"123"
        on_read(b"\xff\xfe\n odd/1", 1, b"%-32s" % b"read")
    assert {part.directory for part in given} == {b"", b"\xff\xfe\n odd"}
    assert found_in(wanted)[b"small"] == DIGESTS[b"small"]
    assert found_in(wanted)[b"empty"] == b"%-32s" % b"read"


def test_directories_are_given_as_they_are_read_though_hashing_had_begun(
    top_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the first push of a source begins to send while the source is being hashed."""
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)
    monkeypatch.setattr(hashing, "is_full", lambda files, _: files == 1)
    work, reading, told = Hashing(), contextlib.ExitStack(), list[int]()

    def hashed_one(_: int) -> None:
        told.append(1)
        if len(told) == 1:
            on_read = reading.enter_context(work.reading())
            on_read(b"123/2", inodes[b"123/2"], b"%-32s" % b"read")
            on_read(b"\xff\xfe\n odd/1", 1, b"%-32s" % b"another's")

    inodes = inodes_of(top_fd)
    wanted = parts(CONTENTS, inodes)
    given = work.each(top_fd, wanted, hashed_one)
    assert next(given).directory == b"123"
    assert len(told) < len(CONTENTS) - 1, "the others wait for the reader"
    reading.close()
    assert {part.directory for part in given} == {b"", b"\xff\xfe\n odd"}
    found = found_in(wanted)
    assert found.pop(b"123/2") in (b"%-32s" % b"read", DIGESTS[b"123/2"])
    assert found == {path: digest for path, digest in DIGESTS.items() if path in found}


class Reversed(Hashing):
    def each(
        self, top_fd: int, parts: Sequence[Unhashed], progress: object = None
    ) -> Iterator[Unhashed]:
        self.files(top_fd, parts)
        yield from reversed(parts)


def test_a_cache_directory_comes_after_its_sources(tmp_path: Path) -> None:
    """What of it counts depends on them, in whatever order the files are hashed."""
    nodes = with_parents(
        {
            b"a/m.py": file(b"source"),
            b"a/__pycache__/m.cpython-311.pyc": file(b"cached"),
            b"a/__pycache__/__pycache__/n.cpython-311.pyc": file(b"odd"),
            b"a/__pycache__/o.cpython-311.pyc": file(b"alone"),
        }
    )
    disk.build(os.fsencode(tmp_path), nodes)
    with opened_directory(os.fsencode(tmp_path)) as top_fd:
        scanned = scan(OpenTree(top_fd, LocalPaths([])))
        expected, found = (
            ListingBuild(
                top_fd, scanned.directories, {}, NO_WRITTEN_DIGESTS, None, hashing_
            ).directories()
            for hashing_ in (Hashing(), Reversed())
        )
    assert found == expected
    assert combine({path: known.digest for path, known in found.items()}) == revision_of(
        manifest_of(nodes)
    )
