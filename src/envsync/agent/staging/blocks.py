"""Block-wise transfer of large files of which the target has most already.

The target reports the marks of the blocks of the file that it has at a path: what an interrupted
push left, or the live or an earlier version's. The source answers with the blocks to copy from
there and the bytes that it sends (`transport.block_runs`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from typing import Collection, Dict, List, Optional, Sequence, Tuple

from envsync.agent.server.reading import READ_FLAGS, closing_fd
from envsync.agent.staging.incoming import Incoming
from envsync.agent.staging.writing import TreeWriter
from envsync.agent.trees.outgoing import GONE, HEAD
from envsync.errors import TransferFailed
from envsync.tree.entry import Entry

LARGE_BYTES = 8 << 20
"""Smaller files are sent in less time than asking for marks takes."""

BLOCK_BYTES = 1 << 16
MARK_DIGEST_BYTES = 16
MARK_START_BYTES = 16
MARK_BYTES = MARK_DIGEST_BYTES + MARK_START_BYTES
SAMPLE_BLOCKS = 64
"""The number of blocks compared before all blocks of a file are hashed on both ends."""

COUNT = struct.Struct("<II")
"""The number of whole blocks in the target's file, and of the marks that follow."""

RUN = struct.Struct("<BII")
"""A run's kind, its first block, and the number of blocks to copy or of bytes that follow."""

COPY_RUN, DATA_RUN = 0, 1


def block_mark(block: bytes) -> bytes:
    """Return a block's digest and its first bytes, which can be searched for."""
    return hashlib.sha256(block).digest()[:MARK_DIGEST_BYTES] + block[:MARK_START_BYTES]


def read_part(fd: int, position: int, size_bytes: int) -> bytes:
    """Return a part of an open file, short or empty if it cannot be read; a hash will show it."""
    with contextlib.suppress(OSError):
        return os.pread(fd, size_bytes, position)
    return b""


def numbers(count: int, is_sample: bool) -> Sequence[int]:
    """Return which of `count` blocks are reported: all, or for a sample a few, evenly spaced."""
    if not is_sample or count <= SAMPLE_BLOCKS:
        return range(count)
    return [number * count // SAMPLE_BLOCKS for number in range(SAMPLE_BLOCKS)]


class Bases:
    """The files at the paths of large files, each from the first tree that has one there."""

    def __init__(self, trees: Sequence[bytes]) -> None:
        self._trees = trees

    def open(self, path: bytes) -> int:
        """Return a file descriptor, or -1 if there is no file of at least one block."""
        for tree in self._trees:
            with contextlib.suppress(OSError), contextlib.ExitStack() as closing:
                fd = os.open(os.path.join(tree, path), READ_FLAGS)
                closing.callback(os.close, fd)
                status = os.fstat(fd)
                if stat.S_ISREG(status.st_mode) and status.st_size >= BLOCK_BYTES:
                    closing.pop_all()
                    return fd
        return -1

    def encoded_marks(self, path: bytes, size_bytes: int, is_sample: bool) -> bytes:
        """Return how many blocks there are, and the marks of all or of a sample.

        `size_bytes` is the size that the file will have; no more than twice as much is considered.
        """
        fd = self.open(path)
        if fd < 0:
            return COUNT.pack(0, 0)
        try:
            with closing_fd(fd):
                count = min(os.fstat(fd).st_size, 2 * size_bytes) // BLOCK_BYTES
                which = numbers(count, is_sample)
                marks = [block_mark(os.pread(fd, BLOCK_BYTES, n * BLOCK_BYTES)) for n in which]
        except OSError:
            return COUNT.pack(0, 0)  # unreadable here, so the source sends it
        return COUNT.pack(count, len(marks)) + b"".join(marks)


class Patching(Incoming):
    """An `Incoming` that writes files from blocks of existing files and bytes that arrive."""

    def __init__(
        self, writer: TreeWriter, items: Collection[Tuple[bytes, Entry]], bases: Bases
    ) -> None:
        super().__init__(writer, items)
        self._bases = bases
        self._base_fd = -1
        self._coming = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        data = self._rest + data
        view, position = memoryview(data), 0
        while True:
            taken = self._step(view[position:])
            if not taken:
                break
            position += taken
        self._rest = bytes(view[position:])

    def abort(self) -> None:
        super().abort()
        self._close_base()

    def _step(self, view: memoryview) -> int:
        """Take one part of the data; return its length, or 0 if it has not arrived completely."""
        if self._open is None:
            return self._head(view) if len(view) >= HEAD.size else 0
        if self._coming:
            part = view[: self._coming]
            self._coming -= len(part)
            self._write(part)
            return len(part)
        if len(view) < RUN.size:
            return 0
        kind, first, count = RUN.unpack_from(view)
        if kind == DATA_RUN and 0 < count <= self._open.left:
            self._coming = count
        elif kind == COPY_RUN and 0 < count * BLOCK_BYTES <= self._open.left:
            self._copy(first, count)
        else:
            raise TransferFailed("the stream has an invalid part of a file")
        return RUN.size

    def _head(self, view: memoryview) -> int:
        number, size_bytes = HEAD.unpack_from(view)
        entry = self._expect(number, size_bytes)
        if size_bytes == GONE or not size_bytes:
            self._skip()
        else:
            # Open it before the new file replaces it: it may be the file at the same path.
            self._base_fd = self._bases.open(self._path)
            self._begin(entry)
        return HEAD.size

    def _copy(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            # If the block has changed meanwhile, the hash of the whole file will show it.
            block = read_part(self._base_fd, number * BLOCK_BYTES, BLOCK_BYTES)
            self._write(memoryview(block.ljust(BLOCK_BYTES, b"\0")))

    def _write(self, part: memoryview) -> None:
        self._continue(part)
        if self._open is None:
            self._close_base()

    def _close_base(self) -> None:
        if self._base_fd >= 0:
            os.close(self._base_fd)
            self._base_fd = -1


class Blocks:
    """The block marks that a target reported for one path, with a lookup by mark."""

    def __init__(self, count: int, marks: Sequence[bytes]) -> None:
        self.count = count
        self.marks = marks
        self._first: Dict[bytes, int] = {}
        for number, mark in enumerate(marks):
            self._first.setdefault(mark, number)

    def find(self, mark: bytes, expected: int) -> Optional[int]:
        """Return the number of a block with that mark, preferably `expected`, or None."""
        if expected < len(self.marks) and self.marks[expected] == mark:
            return expected
        return self._first.get(mark)


def parse(payload: bytes, sizes_bytes: Sequence[int]) -> List[Blocks]:
    """Parse the marks reported for files that will have these sizes; ValueError if malformed."""
    found, position = [], 0
    for size_bytes in sizes_bytes:
        if len(payload) - position < COUNT.size:
            raise ValueError("incomplete marks")
        count, marked = COUNT.unpack_from(payload, position)
        position += COUNT.size
        end = position + marked * MARK_BYTES
        if not marked <= count <= 2 * size_bytes // BLOCK_BYTES or end > len(payload):
            raise ValueError("incomplete marks")
        starts = range(position, end, MARK_BYTES)
        found.append(Blocks(count, [payload[at : at + MARK_BYTES] for at in starts]))
        position = end
    if position != len(payload):
        raise ValueError("more marks than requested")
    return found
