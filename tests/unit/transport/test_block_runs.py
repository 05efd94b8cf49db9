"""What of a large file is new, also where bytes were inserted, removed or replaced."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.staging import blocks as blocking
from envsync.agent.staging.blocks import SAMPLE_BLOCKS, Bases, Blocks, parse
from envsync.transport import block_runs
from envsync.transport.block_runs import is_alike, runs
from tests.support.contents import directory

BLOCK_BYTES = 256
PATH = b"lib.so"
OLD = random.Random(1).randbytes(2000 * BLOCK_BYTES + 77)


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocking, block_runs):
        monkeypatch.setattr(module, "BLOCK_BYTES", BLOCK_BYTES)


@contextmanager
def opened(content: bytes) -> Iterator[int]:
    with directory({PATH: content}) as top_fd:
        fd = os.open(PATH, os.O_RDONLY, dir_fd=top_fd)
        try:
            yield fd
        finally:
            os.close(fd)


def marks_of(old: bytes, size_bytes: int, *, is_sample: bool = False) -> Blocks:
    with directory({PATH: old}) as there:
        bases = Bases([b"/proc/self/fd/%d" % there])
        payload = bases.encoded_marks(PATH, size_bytes, is_sample)
    [blocks] = parse(payload, [size_bytes])
    return blocks


def new_bytes(old: bytes, new: bytes) -> int:
    """Return how much is sent of a file, of which the target can make it."""
    made, sent_bytes = b"", 0
    with opened(new) as fd:
        for first, count, data in runs(fd, len(new), marks_of(old, len(new))):
            made += data or old[first * BLOCK_BYTES : (first + count) * BLOCK_BYTES]
            sent_bytes += len(data)
    assert made == new
    return sent_bytes


def alike(old: bytes, new: bytes) -> bool:
    with opened(new) as fd:
        return is_alike(fd, len(new), marks_of(old, len(new), is_sample=True))


def noise(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


MIDDLE = len(OLD) // 2 + 5
CHANGES = {
    "nothing": (OLD, 0),
    "inserted near the start": (OLD[:100] + b"8 bytes!" + OLD[100:], 8),
    "inserted in the middle": (OLD[:MIDDLE] + b"x" + OLD[MIDDLE:], 1),
    "much inserted": (OLD[:MIDDLE] + noise(90_000) + OLD[MIDDLE:], 90_000),
    "much put before": (noise(90_000) + OLD, 90_000),
    "put after": (OLD + noise(3000), 3000),
    "removed": (OLD[:100] + OLD[108:], 0),
    # The 64th block after it is the first that is searched for and is still there.
    "much removed": (OLD[:100] + OLD[100 + 50 * BLOCK_BYTES + 7 :], 12 * BLOCK_BYTES),
    "replaced in place": (OLD[:MIDDLE] + noise(5000) + OLD[MIDDLE + 5000 :], 5000),
    "replaced by more": (OLD[:MIDDLE] + noise(5000) + OLD[MIDDLE + 4000 :], 5000),
}


@pytest.mark.parametrize(("new", "changed_bytes"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_costs_itself_and_a_few_blocks(new: bytes, changed_bytes: int) -> None:
    assert new_bytes(OLD, new) <= changed_bytes + 4 * BLOCK_BYTES
    assert alike(OLD, new)


@given(
    st.lists(
        st.tuples(st.integers(0, len(OLD)), st.integers(0, 900), st.integers(0, 900)), max_size=5
    )
)
def test_several_changes(changes: list[tuple[int, int, int]]) -> None:
    new = OLD
    for at, removed, inserted in changes:
        new = new[:at] + noise(inserted) + new[at + removed :]
    changed_bytes = sum(inserted for _, _, inserted in changes)
    # Where changes are close together, what is between them may go unnoticed.
    assert new_bytes(OLD, new) <= changed_bytes + (1 + len(changes) * 16) * BLOCK_BYTES


@given(st.binary(max_size=4000), st.binary(max_size=4000), st.sampled_from([1, 300]))
def test_any_file_is_made_of_any_other(old: bytes, new: bytes, times: int) -> None:
    """Also of contents whose blocks begin alike."""
    assert new_bytes(old * times, new * times) <= len(new) * times


def test_zeros_and_lines_that_repeat() -> None:
    for content in (bytes(300_000), b"the same line\n" * 20_000):
        assert new_bytes(content, content[:999] + b"new" + content[999:]) < 10 * BLOCK_BYTES


def test_another_file_is_not_alike() -> None:
    assert not alike(OLD, noise(len(OLD)))
    assert not alike(OLD, noise(len(OLD) + 5000))
    assert not alike(b"", OLD)
    assert len(OLD) // BLOCK_BYTES > SAMPLE_BLOCKS


def test_search_of_a_file_that_has_nothing_more_in_common_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[int] = []
    find = block_runs._find

    def counted(fd: int, mark: bytes, start: int, window: bytes) -> int | None:
        searched.append(len(window))
        return find(fd, mark, start, window)

    monkeypatch.setattr(block_runs, "_find", counted)
    # What is old comes late and alone, so that the search begins again and again.
    new = bytearray(OLD)
    for at in range(0, len(OLD), 90 * BLOCK_BYTES):
        new[at : at + 89 * BLOCK_BYTES] = noise(89 * BLOCK_BYTES + at)[: 89 * BLOCK_BYTES]
    new_bytes(OLD, bytes(new))
    assert searched
    assert sum(searched) <= 9 * len(new)
