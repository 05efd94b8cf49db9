"""Which files hold a string, as it is or wide: by few, by workers, while hashed and while sent."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from envsync.agent.source import prefix_search
from envsync.agent.source.prefix_search import FileToSearch, search
from envsync.agent.trees import hashing
from envsync.agent.trees.file_hash import READ_BYTES
from envsync.agent.trees.hashing import Hashing
from envsync.agent.trees.needle_search import NeedleSearch
from envsync.agent.trees.outgoing import BLOCK_BYTES, outgoing
from envsync.agent.trees.stat_rows import Row, pack
from envsync.agent.trees.unhashed import Unhashed
from envsync.conda.needles import needles
from envsync.tree.entry import join

NEEDLES = needles([b"/w/conda"])
TEXT = "prefix=/w/conda/envs/my"
CONTENTS = {
    b"plain": TEXT.encode(),
    b"both": TEXT.encode() + TEXT.encode("utf-16"),
    b"wide": b"\1" + TEXT.encode("utf-32-be"),
    b"none": b"/w/\0/wconda",
    # Where one block ends and the next begins.
    b"cut": bytes(prefix_search.SEARCH_READ_BYTES - 20) + TEXT.encode("utf-32"),
    b"cut-sent": bytes(BLOCK_BYTES - 40) + TEXT.encode("utf-32"),
    b"cut-hashed": bytes(READ_BYTES - 40) + TEXT.encode("utf-32"),
}


@pytest.fixture
def top_fd(tmp_path: Path) -> Iterator[int]:
    for name, content in CONTENTS.items():
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("few", [0, 100])
def test_search_finds_which_files_hold_a_needle(
    top_fd: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_search, "_FEW_FILES", few)
    candidates = []
    for name in CONTENTS:
        status = os.stat(name, dir_fd=top_fd)
        size, times = status.st_size, (status.st_mtime_ns, status.st_ctime_ns)
        candidates.append(FileToSearch(name, status.st_ino, size, *times))
    gone = [candidates[0]._replace(path=b"gone"), candidates[0]._replace(inode=1, path=b"none")]
    found = search(top_fd, NEEDLES, [*candidates, gone[0]])
    assert found.holding == {b"plain", b"both"}
    assert found.holding_wide == {b"both", b"wide", b"cut", b"cut-sent", b"cut-hashed"}
    assert found.changed == {b"gone"}
    assert search(top_fd, NEEDLES, gone).changed == {b"gone", b"none"}


def test_file_that_holds_no_needle_is_known_once_it_is_sent(top_fd: int) -> None:
    told: dict[bytes, bytes] = {}

    def on_read(path: bytes, inode: int, digest: bytes) -> None:
        assert inode
        told[path] = digest

    seen = NeedleSearch(NEEDLES)
    items = [(name, len(content)) for name, content in CONTENTS.items()]
    for _ in outgoing(top_fd, items, on_read=on_read, search=seen):
        pass
    assert set(told) == set(CONTENTS)
    assert seen.without == {told[b"none"]}


def _unhashed(top_fd: int, directory: bytes, names: Sequence[bytes]) -> Unhashed:
    rows = []
    for name in sorted(names):
        inode = os.stat(join(directory, name), dir_fd=top_fd).st_ino
        rows.append(Row(name, stat.S_IFREG | 0o644, inode, 1, 0, 0, 1))
    return Unhashed(directory, pack(rows), bytearray(32 * len(rows)), len(rows), len(rows))


def test_file_that_holds_no_needle_is_known_once_workers_have_hashed_it(
    top_fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "m.pyc").write_bytes(b"compiled code is not searched")
    parts = [_unhashed(top_fd, b"", [*CONTENTS]), _unhashed(top_fd, b"__pycache__", [b"m.pyc"])]
    seen = NeedleSearch(NEEDLES)
    Hashing(seen).files(top_fd, parts)
    assert parts[0].contents() == [
        hashlib.sha256(CONTENTS[name]).digest() for name in sorted(CONTENTS)
    ]
    assert seen.without == {hashlib.sha256(CONTENTS[b"none"]).digest()}
