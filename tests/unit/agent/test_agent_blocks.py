"""A file made of blocks that are there and bytes that come is the file, or is none."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.staging import blocks as blocking
from envsync.agent.staging.blocks import (
    BLOCK_BYTES,
    COPY_RUN,
    DATA_RUN,
    RUN,
    SAMPLE_BLOCKS,
    Bases,
    Blocks,
    Patching,
    numbers,
    parse,
)
from envsync.agent.staging.writing import TreeWriter
from envsync.agent.trees.outgoing import HEAD
from envsync.errors import TransferFailed
from envsync.transport import block_runs
from envsync.transport.block_runs import runs
from tests.support.contents import directory, entry

BLOCK = b"0123456789abcdef"
PATH = b"lib.so"


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocking, block_runs):
        monkeypatch.setattr(module, "BLOCK_BYTES", len(BLOCK))


def path_of(fd: int) -> bytes:
    return os.fsencode(os.readlink(f"/proc/self/fd/{fd}"))


def stream(new: bytes, known: Blocks) -> tuple[bytes, int]:
    """What the source sends of a file, and how many of its bytes are in that."""
    with directory({PATH: new}) as top_fd:
        fd = os.open(PATH, os.O_RDONLY, dir_fd=top_fd)
        parts = [HEAD.pack(0, len(new))]
        sent_bytes = 0
        for first, count, data in runs(fd, len(new), known):
            sent_bytes += len(data)
            head = RUN.pack(DATA_RUN, 0, len(data)) if data else RUN.pack(COPY_RUN, first, count)
            parts.append(head + data)
        os.close(fd)
    return b"".join(parts), sent_bytes


def received(
    sent: bytes, old: bytes, new: bytes, cuts: Sequence[int] = (), finish: bool = True
) -> bytes | None:
    """The file that is made of it where `old` stands; None where none is."""
    with (
        directory({PATH: old}) as there,
        directory() as staged,
        contextlib.closing(TreeWriter(staged)) as writer,
    ):
        patching = Patching(writer, [(PATH, entry(PATH, new))], Bases([path_of(there)]))
        try:
            at = 0
            for cut in sorted(cut % (len(sent) + 1) for cut in cuts):
                patching.feed(sent[at:cut])
                at = max(at, cut)
            patching.feed(sent[at:])
            if finish:
                patching.finish()
        finally:
            patching.abort()
        if patching.failed:
            assert os.listdir(staged) == []
            return None
        with open(path_of(staged) + b"/" + PATH, "rb") as file:
            return file.read()


def told(old: bytes) -> Blocks:
    with directory({PATH: old}) as there:
        size_bytes = len(old) + len(BLOCK)
        payload = Bases([path_of(there)]).encoded_marks(PATH, size_bytes, is_sample=False)
        [known] = parse(payload, [size_bytes])
    return known


contents = st.lists(st.sampled_from([BLOCK, BLOCK[::-1], b"x" * len(BLOCK), b"y"])).map(b"".join)


@given(contents, contents.filter(bool), st.lists(st.integers(0, 999), max_size=3))
def test_file_of_old_blocks_and_new_bytes_is_the_new_file(
    old: bytes, new: bytes, cuts: list[int]
) -> None:
    sent, sent_bytes = stream(new, told(old))
    assert received(sent, old, new, cuts) == new
    if old == new:
        assert sent_bytes == len(new) % len(BLOCK)


def test_blocks_that_moved_are_not_sent_again() -> None:
    old = b"".join(bytes([number]) * len(BLOCK) for number in range(9))
    blocks = [old[at : at + len(BLOCK)] for at in range(0, len(old), len(BLOCK))]
    random.Random(1).shuffle(blocks)
    new = b"".join([*blocks, BLOCK])
    sent, sent_bytes = stream(new, told(old))
    assert sent_bytes == len(BLOCK)
    assert received(sent, old, new) == new


def test_what_follows_an_inserted_byte_is_not_sent_again() -> None:
    old = os.urandom(20 * len(BLOCK))
    sent, sent_bytes = stream(b"!" + old, told(old))
    assert sent_bytes == 1 + len(BLOCK)
    assert received(sent, old, b"!" + old) == b"!" + old


def test_old_file_that_changed_since_it_was_described_gives_no_file() -> None:
    old, new = os.urandom(20 * len(BLOCK)), os.urandom(3) + b"end"
    new = old + new
    sent, _ = stream(new, told(old))
    for now in (bytes([old[0] ^ 1]) + old[1:], old[: len(BLOCK)], b""):
        assert received(sent, now, new) is None


@given(st.integers(0, 200), st.binary(max_size=9), st.integers(0, 9))
def test_a_damaged_stream_makes_no_other_file(at: int, damage: bytes, gone: int) -> None:
    old = BLOCK * 3 + BLOCK[::-1] * 3
    new = BLOCK[::-1] * 2 + b"between" + BLOCK * 4
    sent = bytearray(stream(new, told(old))[0])
    sent[at : at + gone] = damage
    with contextlib.suppress(TransferFailed):
        assert received(bytes(sent), old, new) in (new, None)


BROKEN = {
    "more blocks than the file has": RUN.pack(COPY_RUN, 0, 3),
    "no blocks": RUN.pack(COPY_RUN, 0, 0),
    "blocks beyond all numbers": RUN.pack(COPY_RUN, 0, (1 << 32) - 1),
    "more bytes than the file has": RUN.pack(DATA_RUN, 0, 99),
    "no bytes": RUN.pack(DATA_RUN, 0, 0),
    "neither": RUN.pack(7, 0, 1),
    "an end": RUN.pack(DATA_RUN, 0, 5) + b"four",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_stream_that_breaks_its_rules_is_refused(broken: bytes) -> None:
    new = BLOCK * 2
    with pytest.raises(TransferFailed):
        received(HEAD.pack(0, len(new)) + broken, new, new)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0" * 7,
        b"\0" * 9,
        b"\1\0\0\0\2\0\0\0" + b"x" * 64,
        b"\7\0\0\0\7\0\0\0" + b"x" * 7 * 32,  # of a file twice as large, and more
    ],
)
def test_marks_that_are_none(payload: bytes) -> None:
    with pytest.raises(ValueError, match="marks"):
        parse(payload, [3 * len(BLOCK)])


def test_a_sample_is_spread_over_the_whole() -> None:
    assert list(numbers(5, is_sample=True)) == list(numbers(5, is_sample=False)) == list(range(5))
    some = numbers(10_000, is_sample=True)
    assert len(set(some)) == SAMPLE_BLOCKS
    assert max(some) > 9_800
    assert BLOCK_BYTES % len(BLOCK) == 0
