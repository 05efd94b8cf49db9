"""The contents of many files as one stream, made while they are read.

For each file, in the order agreed on: its number, its size, its bytes. A file that is gone
has `GONE` for its size and no bytes; one that is shorter than it was is filled up with
zeros, and its hash will tell.
"""

from __future__ import annotations

import os
import struct
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

from envsync.agent import codec
from envsync.tree.entry import split

HEAD = struct.Struct("<IQ")
GONE = (1 << 64) - 1
BLOCK_BYTES = codec.BLOCK_BYTES_MAX
_PART_BYTES = BLOCK_BYTES - HEAD.size

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

Progress = Callable[[int, int], None]


def outgoing(
    top_fd: int, items: Sequence[Tuple[bytes, int]], progress: Optional[Progress] = None
) -> Iterator[bytes]:
    """Blocks of at most `BLOCK_BYTES` holding the files of `items`: path and size, in order.

    `progress` is called with files and bytes of content read since the last call.
    """
    reader = _Reader(top_fd)
    gathered = _Gathered()
    try:
        for number, (path, size_bytes) in enumerate(items):
            for head, content in reader.file(number, path, size_bytes):
                if gathered.size_bytes + len(head) + len(content) > BLOCK_BYTES:
                    yield from gathered.take(progress)
                gathered.add(head, content)
            gathered.files += 1
        yield from gathered.take(progress)
    finally:
        reader.close()


class _Gathered:
    """Parts of the block that is being made."""

    def __init__(self) -> None:
        self._parts: List[bytes] = []
        self.size_bytes = self.files = self._content_bytes = 0

    def add(self, head: bytes, content: bytes) -> None:
        self._parts += (head, content)
        self.size_bytes += len(head) + len(content)
        self._content_bytes += len(content)

    def take(self, progress: Optional[Progress]) -> Iterator[bytes]:
        block, files, content_bytes = b"".join(self._parts), self.files, self._content_bytes
        self._parts = []
        self.size_bytes = self.files = self._content_bytes = 0
        if progress:
            progress(files, content_bytes)
        yield block


class _Reader:
    def __init__(self, top_fd: int) -> None:
        self._top_fd = top_fd
        self._directory: Optional[bytes] = None
        self._directory_fd = -1

    def file(self, number: int, path: bytes, size_bytes: int) -> Iterator[Tuple[bytes, bytes]]:
        """The file's head, with its content or the first part of it; then further parts."""
        try:
            directory, name = split(path)
            fd = os.open(name, _FILE_FLAGS, dir_fd=self._parent(directory))
        except OSError:
            yield HEAD.pack(number, GONE), b""
            return
        head = HEAD.pack(number, size_bytes)
        try:
            left = size_bytes
            while left or head:
                content = _block(fd, min(left, _PART_BYTES))
                left -= len(content)
                yield head, content
                head = b""
        finally:
            os.close(fd)

    def _parent(self, directory: bytes) -> int:
        if directory != self._directory:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            fd = os.open(directory or b".", flags, dir_fd=self._top_fd)
            self.close()
            self._directory, self._directory_fd = directory, fd
        return self._directory_fd

    def close(self) -> None:
        if self._directory is not None:
            os.close(self._directory_fd)
            self._directory = None


def _block(fd: int, size_bytes: int) -> bytes:
    """Exactly that many bytes; zeros where the file ends early or cannot be read."""
    try:
        block = os.read(fd, size_bytes)
        while len(block) < size_bytes:
            more = os.read(fd, size_bytes - len(block))
            if not more:
                break
            block += more
    except OSError:
        block = b""
    return block + bytes(size_bytes - len(block))
