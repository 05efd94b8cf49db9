"""Contents as a stream: what goes out comes in, and damage is never taken for a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.agent.server import disk_failures
from envsync.agent.staging import writing
from envsync.agent.staging.incoming import Incoming
from envsync.agent.staging.writing import TreeWriter
from envsync.agent.trees.outgoing import BLOCK_BYTES, GONE, HEAD, outgoing
from envsync.errors import NoSpace, TransferFailed
from envsync.tree.entry import Entry, split
from tests.support.contents import Files, directory, entry
from tests.support.trees import entry_of, file

Items = list[tuple[bytes, Entry]]


def items_of(files: Files) -> Items:
    return [(path, entry(path, data)) for path, data in sorted(files.items())]


def stream_of(files: Files, items: Items) -> list[bytes]:
    with directory(files) as top_fd:
        return list(outgoing(top_fd, [(path, e.size_bytes) for path, e in items]))


@contextmanager
def receiver(items: Items) -> Iterator[tuple[Incoming, int]]:
    with directory() as top_fd:
        for path, _ in items:
            if split(path)[0]:
                os.makedirs(f"/proc/self/fd/{top_fd}/{os.fsdecode(split(path)[0])}", exist_ok=True)
        writer = TreeWriter(top_fd)
        incoming = Incoming(writer, items)
        try:
            yield incoming, top_fd
        finally:
            incoming.abort()
            writer.close()


def read_all(top_fd: int, items: Items) -> Files:
    found: Files = {}
    for path, _ in items:
        try:
            fd = os.open(path, os.O_RDONLY, dir_fd=top_fd)
        except FileNotFoundError:
            continue
        with open(fd, "rb") as file:
            found[path] = file.read()
    return found


def feed(incoming: Incoming, stream: bytes, sizes: Sequence[int]) -> None:
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        incoming.feed(stream[at : at + size])
        at, turn = at + size, turn + 1


def receive(incoming: Incoming, stream: bytes, sizes: Sequence[int]) -> None:
    feed(incoming, stream, sizes)
    incoming.finish()


FILES: Files = {
    b"empty": b"",
    b"a": b"x" * 100,
    b"d/b": os.urandom(5000),
    b"d/\xff\n": b"odd",
    b"large": os.urandom(2 * BLOCK_BYTES + 5),
    b"exactly": bytes(BLOCK_BYTES),
}


@pytest.mark.parametrize("sizes", [[1 << 30], [BLOCK_BYTES], [4096], [511], [65536, 1, 7]])
def test_files_sent_as_a_stream_arrive(sizes: list[int]) -> None:
    items = items_of(FILES)
    with receiver(items) as (incoming, top_fd):
        feed(incoming, b"".join(stream_of(FILES, items)), sizes)
        incoming.finish()
        assert read_all(top_fd, items) == FILES
        assert (incoming.files, incoming.failed) == (len(FILES), [])
        status = os.stat(b"d/b", dir_fd=top_fd)
        assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o644, 10**18)


SMALL: Files = {b"a": b"one", b"b": b"", b"c": b"three"}


@settings(max_examples=25)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_stream_arrives_however_it_is_cut(sizes: list[int]) -> None:
    items = items_of(SMALL)
    with receiver(items) as (incoming, top_fd):
        feed(incoming, b"".join(stream_of(SMALL, items)), sizes)
        incoming.finish()
        assert read_all(top_fd, items) == SMALL


def test_blocks_are_bounded() -> None:
    assert max(map(len, stream_of(FILES, items_of(FILES)))) <= BLOCK_BYTES


@pytest.mark.parametrize(
    ("now", "failed"),
    [
        pytest.param({b"a": b"one", b"c": b"three"}, [b"b"], id="gone"),
        pytest.param({**SMALL, b"c": b"th"}, [b"c"], id="shorter"),
        pytest.param({**SMALL, b"c": b"other"}, [b"c"], id="other bytes"),
        pytest.param({}, [b"a", b"b", b"c"], id="all gone"),
        pytest.param({**SMALL, b"c": b"three, and more"}, [], id="longer, the beginning is right"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_source_that_changes_meanwhile(now: Files, failed: list[bytes], size: int) -> None:
    """Such a file is named and not there; the others are."""
    items = items_of(SMALL)
    with receiver(items) as (incoming, top_fd):
        feed(incoming, b"".join(stream_of(now, items)), [size])
        incoming.finish()
        assert incoming.failed == failed
        assert read_all(top_fd, items) == {p: d for p, d in SMALL.items() if p not in failed}


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(HEAD.pack(1, 3) + b"one", id="out of order"),
        pytest.param(HEAD.pack(0, 4) + b"ones", id="another size"),
        pytest.param(HEAD.pack(0, GONE - 1), id="absurd size"),
        pytest.param(HEAD.pack(0, 3) + b"one" + HEAD.pack(0, 3) + b"one", id="a file twice"),
        pytest.param(HEAD.pack(0, 3) + b"on", id="cut in a file"),
        pytest.param(HEAD.pack(0, 3) + b"one" + b"\1\0", id="cut in a head"),
        pytest.param(HEAD.pack(0, 3) + b"one", id="cut between files"),
        pytest.param(b"", id="nothing"),
        pytest.param(
            b"".join(stream_of(SMALL, items_of(SMALL))) + HEAD.pack(3, 0), id="a file too many"
        ),
        pytest.param(b"".join(stream_of(SMALL, items_of(SMALL))) + b"x", id="a stray byte"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_damaged_stream_fails_the_transfer(stream: bytes, size: int) -> None:
    with receiver(items_of(SMALL)) as (incoming, _), pytest.raises(TransferFailed):
        receive(incoming, stream, [size])


@settings(max_examples=40)
@given(st.data())
def test_whatever_arrives_is_right_or_named(data: st.DataObject) -> None:
    items = items_of(SMALL)
    stream = bytearray(b"".join(stream_of(SMALL, items)))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    with receiver(items) as (incoming, top_fd):
        try:
            feed(incoming, bytes(stream), [data.draw(st.integers(1, 50))])
            incoming.finish()
        except TransferFailed:
            return
        for path, content in read_all(top_fd, items).items():
            assert content == SMALL[path]
            assert path not in incoming.failed


@pytest.mark.parametrize("tail", [b"", b"end"])
def test_zeros_of_large_files_take_no_room(tail: bytes) -> None:
    """However they arrive, so that a sparse file stays one."""
    files = {b"sparse": b"begin" + bytes(5 << 20) + tail}
    items = items_of(files)
    with receiver(items) as (incoming, received):
        receive(incoming, b"".join(stream_of(files, items)), [1 << 20])
        with directory() as copied:
            writer = TreeWriter(copied)
            assert writer.copy_file(received, b"sparse", b"sparse", dict(items)[b"sparse"])
            for top_fd in (received, copied):
                assert read_all(top_fd, items) == files
                assert os.stat(b"sparse", dir_fd=top_fd).st_blocks * 512 < 3 << 20
            writer.close()


def test_nothing_is_written_through_a_link() -> None:
    """A directory of the staging tree that became a link, and a link in a file's place."""
    with directory({b"precious": b"precious"}) as outside, directory() as top_fd:
        os.symlink(f"/proc/self/fd/{outside}", b"d", dir_fd=top_fd)
        os.symlink(f"/proc/self/fd/{outside}/precious", b"f", dir_fd=top_fd)
        writer = TreeWriter(top_fd)
        with pytest.raises(OSError, match=r"."):
            writer.begin_file(b"d/new", entry_of(b"d/new", file()))
        os.close(writer.begin_file(b"f", entry_of(b"f", file())))
        writer.close()
        assert os.listdir(outside) == ["precious"]
        assert read_all(outside, items_of({b"precious": b""}))[b"precious"] == b"precious"


# --- copying on the target --------------------------------------------------------------


def test_a_copy_is_hashed_as_it_is_made() -> None:
    with directory({b"old": b"content"}) as holding, directory() as top_fd:
        writer = TreeWriter(top_fd)
        assert writer.copy_file(holding, b"old", b"new", entry(b"new", b"content"))
        assert read_all(top_fd, items_of({b"new": b""})) == {b"new": b"content"}
        assert not writer.copy_file(holding, b"old", b"bad", entry(b"bad", b"changed"))
        assert not writer.copy_file(holding, b"gone", b"bad", entry(b"bad", b"content"))
        assert os.listdir(top_fd) == ["new"], "and no wrong file is left"
        assert writer.written.packed.keys() == {b"new"}
        writer.close()


def test_file_that_was_reflinked_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a filesystem shared is read back; where it refuses, bytes are copied."""

    old, new = b"content" * 9999, b"CONTENT" * 9999

    def pretend(source_fd: int, target_fd: int) -> bool:
        os.pwrite(target_fd, new, 0)
        return True

    monkeypatch.setattr(writing, "clone", pretend)
    with directory({b"old": old}) as holding, directory() as top_fd:
        writer = TreeWriter(top_fd)
        assert not writer.copy_file(holding, b"old", b"new", entry(b"new", old))
        assert writer.copy_file(holding, b"old", b"new", entry(b"new", new))
        writer.close()


def test_a_reflink_of_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloning reads nothing, so a bad block shows only afterwards."""

    def fail(_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writing, "clone", lambda *_: True)
    monkeypatch.setattr(writing, "hash_open_file", fail)
    content = b"content" * 9999
    with directory({b"old": content}) as holding, directory() as top_fd:
        writer = TreeWriter(top_fd)
        assert not writer.copy_file(holding, b"old", b"new", entry(b"new", content))
        assert os.listdir(top_fd) == [], "and what cannot be read is not left there"
        writer.close()


def test_a_reflink_that_is_refused_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the pool runs out of extents: from then on bytes are copied, and all is right."""
    content = b"content" * 9999
    asked = []

    def once(source_fd: int, target_fd: int) -> bool:
        asked.append(target_fd)
        if len(asked) == 1:
            os.pwrite(target_fd, content, 0)
        return len(asked) == 1

    monkeypatch.setattr(writing, "clone", once)
    with directory({b"old": content}) as holding, directory() as top_fd:
        writer = TreeWriter(top_fd)
        for name in (b"one", b"two", b"three"):
            assert writer.copy_file(holding, b"old", name, entry(name, content))
            assert os.stat(name, dir_fd=top_fd).st_size == len(content)
        writer.close()
    assert len(asked) == 2


def test_a_full_disk_is_told_by_name() -> None:
    for code, word in ((28, "full"), (122, "quota")):
        with pytest.raises(NoSpace, match=word), disk_failures.space_guard():
            raise OSError(code, os.strerror(code))
    with pytest.raises(PermissionError), disk_failures.space_guard():
        raise PermissionError
