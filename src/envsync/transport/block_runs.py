"""Finds the blocks that a target has in a file of the source.

They may have moved by any number of bytes, since bytes before them were inserted or removed. Where
the file goes on with other blocks than expected, the first bytes of some of the next ones are
searched for; hashing at every position would take far longer than sending.
"""

from __future__ import annotations

from collections.abc import Iterator

from envsync.agent.staging.blocks import (
    BLOCK_BYTES,
    MARK_DIGEST_BYTES,
    Blocks,
    block_mark,
    numbers,
    read_part,
)

_ALIKE_SHARE_MIN = 0.25

# One of these blocks after the one that was expected has survived, unless more was removed.
_BLOCKS_AHEAD = (1, 2, 4, 8, 16, 32, 64)
# What was inserted at once, and is found at the first search.
_BLOCKS_MORE = 16
_WINDOW_BYTES_MAX = 16 << 20
_OCCURRENCES_MAX = 4
# How many times the file's size is searched through at most; 2 GB take a second.
_SEARCHED_MAX = 8


def is_alike(fd: int, size_bytes: int, sample: Blocks) -> bool:
    """Return whether enough of the sampled blocks are in the source's file.

    They are looked for at their places, and about where a change of the file's size has moved them;
    no more than its size is searched through.
    """
    which = numbers(sample.count, is_sample=True)
    if not sample.marks or len(which) != len(sample.marks):
        return False
    # The old size is not known exactly, but the number of its blocks.
    grown = size_bytes - sample.count * BLOCK_BYTES
    backward = min(max(0, BLOCK_BYTES - grown), _WINDOW_BYTES_MAX) + BLOCK_BYTES
    forward = min(max(0, grown), _WINDOW_BYTES_MAX) + BLOCK_BYTES
    same = moved_by = 0
    left_bytes = size_bytes
    for number, mark in zip(which, sample.marks, strict=True):
        place = number * BLOCK_BYTES
        if mark == _mark_at(fd, place) or (moved_by and mark == _mark_at(fd, place + moved_by)):
            same += 1
        elif left_bytes > 0:
            start = max(0, place - backward)
            window = read_part(fd, start, place + forward - start)
            left_bytes -= len(window)
            found = _find(fd, mark, start, window)
            if found is not None:
                same, moved_by = same + 1, found - place
    return same >= _ALIKE_SHARE_MIN * len(sample.marks)


def runs(fd: int, size_bytes: int, blocks: Blocks) -> Iterator[tuple[int, int, bytes]]:
    """Yield a file as runs: first block and number of blocks to copy, or -1, 0 and the bytes.

    If the file has become shorter, it is padded; the receiver notices by its hash.
    """
    search = _Search(fd, size_bytes, blocks)
    position = first = count = expected = missed = resume = 0
    while position < size_bytes:
        length = min(BLOCK_BYTES, size_bytes - position)
        block = read_part(fd, position, length).ljust(length, b"\0")
        found = blocks.find(block_mark(block), first + count) if length == BLOCK_BYTES else None
        if found is not None:
            if not count or found != first + count:
                if count:
                    yield first, count, b""
                first, count = found, 0
            count, missed = count + 1, 0
            position += length
            continue
        if count:
            yield first, count, b""
            expected, first, count = first + count, 0, 0
        if position >= resume:
            missed += 1
            resume = search.next_known(position, expected, missed)
        if position < resume:
            block = block[: resume - position]
        yield -1, 0, block
        position += len(block)
    if count:
        yield first, count, b""


class _Search:
    """Searches one file for where blocks of the target go on."""

    def __init__(self, fd: int, size_bytes: int, blocks: Blocks) -> None:
        self._fd = fd
        self._blocks = blocks
        self._left_bytes = _SEARCHED_MAX * size_bytes

    def next_known(self, position: int, expected: int, missed: int) -> int:
        """Return where after `position` a block begins that the target has; 0 if not found.

        `expected` is the block that was expected first, and `missed` the number of unknown blocks
        since then. It is asked at each, and searches ever more seldom, and ever farther: the
        second is the first that cannot be a single block that was changed in place.
        """
        if missed < 2 or missed & (missed - 1):
            return 0
        for ahead in _BLOCKS_AHEAD:
            if self._left_bytes <= 0 or expected + ahead >= len(self._blocks.marks):
                break
            window_blocks = missed + _BLOCKS_MORE + ahead
            window = read_part(
                self._fd, position, min(window_blocks * BLOCK_BYTES, _WINDOW_BYTES_MAX)
            )
            self._left_bytes -= len(window)
            found = _find(self._fd, self._blocks.marks[expected + ahead], position, window)
            if found is not None:
                return found
        return 0


def _find(fd: int, mark: bytes, start: int, window: bytes) -> int | None:
    """Return where the marked block is; `window` is the file from `start`, where it may begin."""
    at = -1
    for _ in range(_OCCURRENCES_MAX):
        at = window.find(mark[MARK_DIGEST_BYTES:], at + 1)
        if at < 0:
            break
        if _mark_at(fd, start + at) == mark:
            return start + at
    return None


def _mark_at(fd: int, position: int) -> bytes:
    return block_mark(read_part(fd, position, BLOCK_BYTES)) if position >= 0 else b""
