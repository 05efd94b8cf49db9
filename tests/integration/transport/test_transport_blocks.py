"""Of large files that are there in part or in another version, what is new is sent."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.errors import EnvsyncError
from envsync.transport.choice import automatic
from envsync.transport.stream import StreamTransport
from tests.integration.transport.two_ends import StagedPush, TwoEnds

LARGE = b"lib/large.so"
CONTENT = random.Random(4).randbytes(12 << 20)
CHANGED = b"here and " + CONTENT[9:5_000_000] + b"there" + CONTENT[5_000_005:] + b", and some more"


def sent_bytes(push: StagedPush) -> int:
    sent = StreamTransport().send(replace(push.job, has_versions=True))
    assert sent.failed == ()
    assert sent.wire_bytes is not None
    push.target.complete()
    return sent.wire_bytes


def test_a_changed_file_and_one_that_was_cut(ends: TwoEnds) -> None:
    ends.write(LARGE, CONTENT)
    ends.write(b"small", b"one")
    cut = ends.begin()

    def stop(size_bytes: int) -> None:
        ends.sent_bytes.append(size_bytes)
        if sum(ends.sent_bytes) > 8 << 20:
            ends.sshd.cut()

    with pytest.raises(EnvsyncError):
        StreamTransport().send(cut.with_progress(stop))
    cut.close()
    resumed = ends.begin()
    assert sent_bytes(resumed) < 9 << 20
    assert resumed.staged_files() == ends.source_files()
    resumed.publish("stream")
    resumed.close()

    ends.write(LARGE, CHANGED)
    ends.write(b"small", b"two")
    push = ends.begin()
    assert sent_bytes(push) < 250_000
    assert push.staged_files() == ends.source_files()


def test_inserted_bytes_are_sent_and_not_what_follows_them(ends: TwoEnds) -> None:
    content = random.Random(5).randbytes(20 << 20)
    ends.write(LARGE, content)
    first = ends.begin()
    sent_bytes(first)
    first.publish("stream")
    first.close()
    ends.write(LARGE, content[:100] + b"inserted" + content[100:])
    push = ends.begin()
    job = replace(push.limited(20_000_000), has_versions=True)
    sent = automatic(job).transport.send(job)
    assert sent.wire_bytes is not None
    assert 8 < sent.wire_bytes < 150_000
    push.target.complete()
    assert push.staged_files() == ends.source_files()


def test_a_version_that_has_nothing_in_common(ends: TwoEnds) -> None:
    ends.write(LARGE, os.urandom(9 << 20))
    push = ends.begin()
    assert sent_bytes(push) > 9 << 20
    push.publish("stream")
    push.close()
    ends.write(LARGE, os.urandom(9 << 20))
    push = ends.begin()
    assert sent_bytes(push) > 9 << 20
    assert push.staged_files() == ends.source_files()


def to_nothing(path: Path) -> None:
    path.unlink()


def to_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_a_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def to_less(path: Path) -> None:
    os.truncate(path, 1 << 20)


@pytest.mark.parametrize("turn", [to_nothing, to_a_directory, to_a_pipe, to_a_link, to_less])
def test_large_file_that_became_something_else_fails_alone(
    ends: TwoEnds, turn: Callable[[Path], None]
) -> None:
    ends.write(LARGE, CONTENT)
    first = ends.begin()
    sent_bytes(first)
    first.publish("stream")
    first.close()
    ends.write(LARGE, CHANGED)
    ends.write(b"small", b"one")
    push = ends.begin()
    turn(ends.source / os.fsdecode(LARGE))
    sent = StreamTransport().send(replace(push.job, has_versions=True))
    assert sent.failed == (LARGE,)
    assert b"small" in push.staged_files()
