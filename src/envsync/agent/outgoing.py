"""The contents of many files as one stream, made while they are read.

For each file, in the order agreed on: its number, its size, its bytes. A file that is gone
has `GONE` for its size and no bytes; one that is shorter than it was is filled up with
zeros, and its hash will tell.
"""

from __future__ import annotations

import os
import struct
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

from envsync.tree.entry import split

HEAD = struct.Struct("<IQ")
GONE = (1 << 64) - 1
BLOCK_BYTES = 1 << 20

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

Progress = Callable[[int, int], None]


def outgoing(
    top_fd: int, items: Sequence[Tuple[bytes, int]], progress: Optional[Progress] = None
) -> Iterator[bytes]:
    """Blocks of about 1 MiB holding the files of `items`: path and size, in order.

    `progress` is called with files and bytes read since the last call.
    """
    reader = _Reader(top_fd)
    parts: List[bytes] = []
    gathered = files = 0
    try:
        for number, (path, size_bytes) in enumerate(items):
            for part in reader.file(number, path, size_bytes):
                parts.append(part)
                gathered += len(part)
                if gathered >= BLOCK_BYTES:
                    yield b"".join(parts)
                    if progress:
                        progress(files, gathered)
                    parts, gathered, files = [], 0, 0
            files += 1
        yield b"".join(parts)
        if progress:
            progress(files, gathered)
    finally:
        reader.close()


class _Reader:
    def __init__(self, top_fd: int) -> None:
        self._top_fd = top_fd
        self._directory: Optional[bytes] = None
        self._directory_fd = -1

    def file(self, number: int, path: bytes, size_bytes: int) -> Iterator[bytes]:
        try:
            directory, name = split(path)
            fd = os.open(name, _FILE_FLAGS, dir_fd=self._parent(directory))
        except OSError:
            yield HEAD.pack(number, GONE)
            return
        try:
            if size_bytes < BLOCK_BYTES:
                yield HEAD.pack(number, size_bytes) + _block(fd, size_bytes)
                return
            yield HEAD.pack(number, size_bytes)
            left = size_bytes
            while left:
                block = _block(fd, min(left, BLOCK_BYTES))
                left -= len(block)
                yield block
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
