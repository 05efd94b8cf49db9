"""Hashing many files: in this process and in workers, with the same answers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.agent import hashing
from envsync.agent.hashing import BLOCK_BYTES, Item, hash_files
from envsync.agent.scan_pass import open_directory

CONTENTS = {
    b"empty": b"",
    b"small": b"x",
    b"one block": bytes(BLOCK_BYTES),
    b"a byte more": bytes(BLOCK_BYTES + 1),
    b"several": os.urandom(3 * BLOCK_BYTES + 17),
    b"\xff\xfe\n odd/1": b"name",
    b"123/2": b"looks like an inode",
}


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


def items() -> list[Item]:
    return [Item(path, len(content)) for path, content in CONTENTS.items()]


@pytest.mark.usefixtures("parallel")
def test_it_is_sha256(top_fd: int) -> None:
    told: list[int] = []
    expected = {path: hashlib.sha256(data).digest() for path, data in CONTENTS.items()}
    assert hash_files(top_fd, items(), told.append) == expected
    assert sum(told) == sum(map(len, CONTENTS.values()))


@pytest.mark.usefixtures("parallel")
def test_what_cannot_be_read_is_none(top_fd: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.symlink("small", tmp_path / "link")
    bad = [b"gone", b"gone/below", b"link", b"pipe/x", b"x" * 300, b"y/" * 3000]
    found = hash_files(top_fd, [*(Item(path, 1) for path in bad), Item(b"small", 1)])
    assert [found[path] for path in bad] == [None] * len(bad)
    assert found[b"small"] == hashlib.sha256(b"x").digest()


@pytest.mark.usefixtures("parallel")
def test_another_file_than_was_meant_is_none(top_fd: int, tmp_path: Path) -> None:
    inode = os.stat(tmp_path / "small").st_ino
    assert hash_files(top_fd, [Item(b"small", 1, inode)])[b"small"] is not None
    assert hash_files(top_fd, [Item(b"small", 1, inode + 1)])[b"small"] is None


def test_a_worker_that_dies_is_an_error_and_no_answer(
    top_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)
    monkeypatch.setattr(hashing, "_CODE", "os._exit(1)")
    with pytest.raises(OSError, match=r"ended early|Broken pipe"):
        hash_files(top_fd, items())
