"""A sample of files tells how well they compress, whatever became of some of them."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from envsync.agent.source.sampling import sampled
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.outgoing import outgoing
from envsync.agent.wire import codec


def test_file_that_cannot_be_read_any_more_is_left_out_of_the_sample(tmp_path: Path) -> None:
    """Removed since it was listed, or a directory by now."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "became").mkdir()
    items = [(b"became", 10), (b"file", 7), (b"gone", 10)]
    with opened_directory(os.fsencode(tmp_path)) as top_fd:
        facts = sampled(top_fd, items, [("none", 0)])
        sent = b"".join(outgoing(top_fd, items))
    assert facts.wire_bytes == (len(codec.encode("none", 0, sent)),)


def test_few_blocks_among_zeros_are_in_the_sample(tmp_path: Path) -> None:
    """They are most of what is sent."""
    content = bytes(60 << 20) + os.urandom(200_000)
    (tmp_path / "checkpoint").write_bytes(content)
    with opened_directory(os.fsencode(tmp_path)) as top_fd:
        facts = sampled(top_fd, [(b"checkpoint", len(content))], [("zlib", 1)])
    assert facts.wire_bytes[0] == pytest.approx(len(zlib.compress(content, 1)), rel=0.3)


def test_large_file_is_rewritten_once_for_all_its_parts(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    rewritten: list[bytes] = []

    def instead(path: bytes) -> bytes:
        rewritten.append(path)
        return content

    with opened_directory(os.fsencode(tmp_path)) as top_fd:
        facts = sampled(top_fd, [(b"library", len(content))], [("none", 0)], instead)
    assert facts.wire_bytes[0] > len(content)
    assert rewritten == [b"library"]
