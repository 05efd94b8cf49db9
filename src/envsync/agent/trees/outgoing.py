"""Makes one stream of the contents of many files, while they are read.

For each file, in the order agreed on: its number, its size, its bytes. A file that is gone or
cannot be opened has the size `GONE` and no bytes. One that has become shorter is padded with
zeros, and the receiver will notice by the hash.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, List, Optional, Tuple

from envsync.agent.server.progress import ContentsProgress
from envsync.agent.server.reading import READ_FLAGS
from envsync.agent.trees.directory_read import ParentDirectory
from envsync.agent.trees.hashing import OnRead
from envsync.agent.trees.needle_search import NeedleSearch
from envsync.agent.wire import codec
from envsync.tree.entry import split

if TYPE_CHECKING:
    from hashlib import _Hash

HEAD = struct.Struct("<IQ")
GONE = (1 << 64) - 1
BLOCK_BYTES = codec.BLOCK_BYTES_MAX
PART_BYTES = BLOCK_BYTES - HEAD.size
"""A larger file is cut into parts of this size."""


def outgoing(
    top_fd: int,
    items: Iterable[Tuple[bytes, int]],
    progress: Optional[ContentsProgress] = None,
    on_read: Optional[OnRead] = None,
    instead: Callable[[bytes], Optional[bytes]] = lambda _: None,
    search: Optional[NeedleSearch] = None,
) -> Iterator[bytes]:
    """Yield blocks of at most `BLOCK_BYTES` with the files of `items`: path and size, in order.

    `progress` is called with the files and bytes of content read since the last call, `on_read`
    with path, inode and SHA-256 of each file that was read whole. `instead` returns what is
    sent in place of a file's own content, or None; if it raises OSError or ValueError, the file
    counts as gone. `search`, which needs `on_read`, learns which contents have none of its
    strings.
    """
    reader = _FileReader(top_fd, on_read, instead, search)
    gathered = _Gathered()
    try:
        for number, (path, size_bytes) in enumerate(items):
            is_small = size_bytes <= PART_BYTES
            read = (reader.whole(number, path, size_bytes),) if is_small else None
            for head, content in read or reader.parts(number, path, size_bytes):
                if gathered.size_bytes + len(head) + len(content) > BLOCK_BYTES:
                    yield from gathered.take(progress)
                gathered.add(head, content)
            gathered.files += 1
        yield from gathered.take(progress)
    finally:
        reader.close()


class _Gathered:
    """The parts of the next block."""

    def __init__(self) -> None:
        self._parts: List[bytes] = []
        self.size_bytes = self.files = self._content_bytes = 0

    def add(self, head: bytes, content: bytes) -> None:
        # A block of one part is that part: a large file's are not copied once more.
        self._parts += filter(None, (head, content))
        self.size_bytes += len(head) + len(content)
        self._content_bytes += len(content)

    def take(self, progress: Optional[ContentsProgress]) -> Iterator[bytes]:
        block, files, content_bytes = b"".join(self._parts), self.files, self._content_bytes
        self._parts = []
        self.size_bytes = self.files = self._content_bytes = 0
        if progress:
            progress(files, content_bytes)
        yield block


class _FileReader:
    def __init__(
        self,
        top_fd: int,
        on_read: Optional[OnRead],
        instead: Callable[[bytes], Optional[bytes]],
        search: Optional[NeedleSearch],
    ) -> None:
        self._search = search
        self._parent = ParentDirectory(top_fd)
        self._on_read = on_read
        self._instead = instead

    def whole(self, number: int, path: bytes, size_bytes: int) -> Tuple[bytes, bytes]:
        """Return the head and the content of a file that fits into a block."""
        try:
            substitute = self._instead(path)
            if substitute is not None:
                return HEAD.pack(number, size_bytes), _as_long(substitute, size_bytes)
            fd = self._open(path)
        except (OSError, ValueError):
            return HEAD.pack(number, GONE), b""
        try:
            content, is_whole = padded(fd, size_bytes)
            if is_whole and self._on_read is not None:
                state = hashlib.sha256(content)
                self._tell(fd, path, size_bytes, state)
                if self._search is not None and not self._search.is_in(content):
                    self._search.without.add(state.digest())
            return HEAD.pack(number, size_bytes), content
        finally:
            os.close(fd)

    def parts(self, number: int, path: bytes, size_bytes: int) -> Iterator[Tuple[bytes, bytes]]:
        """Yield the head and the first part of a larger file, then the other parts."""
        try:
            substitute = self._instead(path)
            fd = -1 if substitute is not None else self._open(path)
        except (OSError, ValueError):
            yield HEAD.pack(number, GONE), b""
            return
        if substitute is not None:
            yield HEAD.pack(number, size_bytes), b""
            substitute = _as_long(substitute, size_bytes)
            for start in range(0, size_bytes, PART_BYTES):
                yield b"", substitute[start : start + PART_BYTES]
            return
        head, state, is_whole = HEAD.pack(number, size_bytes), hashlib.sha256(), True
        is_found, tail = False, b""
        try:
            for start in range(0, size_bytes, PART_BYTES):
                content, is_whole_part = padded(fd, min(size_bytes - start, PART_BYTES))
                is_whole = is_whole and is_whole_part
                if self._on_read is not None:
                    state.update(content)
                if self._search is not None and not is_found:
                    is_found = self._search.is_in(tail + content)
                    tail = content[-self._search.overlap_bytes :]
                yield head, content
                head = b""
            if is_whole and self._on_read is not None:
                self._tell(fd, path, size_bytes, state)
                if self._search is not None and not is_found:
                    self._search.without.add(state.digest())
        finally:
            os.close(fd)

    def _open(self, path: bytes) -> int:
        directory, name = split(path)
        return os.open(name, READ_FLAGS, dir_fd=self._parent.opened(directory))

    def _tell(self, fd: int, path: bytes, size_bytes: int, state: _Hash) -> None:
        status = os.fstat(fd)
        # A file that has grown was not read to its end.
        if self._on_read is not None and status.st_size == size_bytes:
            self._on_read(path, status.st_ino, state.digest())

    def close(self) -> None:
        self._parent.close()


def _as_long(content: bytes, size_bytes: int) -> bytes:
    """Cut or pad content to the announced size; the receiver notices a change by the hash."""
    return content[:size_bytes].ljust(size_bytes, b"\0")


def padded(fd: int, size_bytes: int) -> Tuple[bytes, bool]:
    """Read exactly that many bytes; return them, and whether all of them are the file's.

    If the file ends early, the rest is zeros; if it cannot be read, all of them are.
    """
    try:
        block = os.read(fd, size_bytes)
        while len(block) < size_bytes:
            more = os.read(fd, size_bytes - len(block))
            if not more:
                break
            block += more
    except OSError:
        block = b""
    missing = size_bytes - len(block)
    return (block + bytes(missing), False) if missing else (block, True)
