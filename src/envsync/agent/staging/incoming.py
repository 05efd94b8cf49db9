"""Writes the stream of `agent.trees.outgoing` into the staging tree."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Collection, List, Optional, Tuple

from envsync.agent.staging.writing import TreeWriter, write_or_skip
from envsync.agent.trees.outgoing import GONE, HEAD
from envsync.agent.wire.frames import write_all
from envsync.errors import TransferFailed
from envsync.tree.entry import Entry

if TYPE_CHECKING:
    from hashlib import _Hash


class Incoming:
    """Writes files as their bytes arrive, hashing them on the way.

    `failed` names the files that were gone at the source, or not what the manifest says. Methods
    raise `TransferFailed` if the stream is malformed, and OSError from writing.
    """

    def __init__(self, writer: TreeWriter, items: Collection[Tuple[bytes, Entry]]) -> None:
        self._writer = writer
        self._items = iter(items)
        self._count = len(items)
        self._path = b""
        self._next = 0
        self._rest = b""
        self._open: Optional[_OpenFile] = None
        self.failed: List[bytes] = []

    @property
    def files(self) -> int:
        """The number of files that have arrived so far, including those that `failed`."""
        return self._next

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        view = memoryview(data)
        position, end = 0, len(data)
        while position < end:
            if self._open is not None:
                position += self._continue(view[position:])
                continue
            if end - position < HEAD.size:
                break
            number, size_bytes = HEAD.unpack_from(data, position)
            entry = self._expect(number, size_bytes)
            position += HEAD.size
            if size_bytes == GONE:
                self._skip()
            elif end - position >= size_bytes:
                self._whole(entry, view[position : position + size_bytes])
                position += size_bytes
            else:
                self._begin(entry)
        self._rest = bytes(view[position:])

    def finish(self) -> None:
        """End the stream; raises `TransferFailed` unless every file has arrived."""
        if self._open is not None or self._rest or self._next != self._count:
            raise TransferFailed("the stream ended early")

    def abort(self) -> None:
        """Close what is open; an unfinished file stays, as the next try may use it."""
        if self._open is not None:
            os.close(self._open.fd)
            self._open = None

    def _expect(self, number: int, size_bytes: int) -> Entry:
        if number != self._next or number >= self._count:
            raise TransferFailed("the stream is out of order")
        self._path, entry = next(self._items)
        if size_bytes not in (GONE, entry.size_bytes):
            raise TransferFailed("the stream has a file of another size")
        return entry

    def _skip(self) -> None:
        self.failed.append(self._path)
        self._next += 1

    def _whole(self, entry: Entry, content: memoryview) -> None:
        fd = self._writer.begin_file(self._path, entry)
        try:
            write_all(fd, content)
        except BaseException:
            os.close(fd)
            raise
        self._end(fd, entry, hashlib.sha256(content).digest())

    def _begin(self, entry: Entry) -> None:
        fd = self._writer.begin_file(self._path, entry)
        self._open = _OpenFile(fd, entry)

    def _continue(self, view: memoryview) -> int:
        file = self._open
        assert file is not None
        part = view[: file.left]
        write_or_skip(file.fd, part)
        file.state.update(part)
        file.left -= len(part)
        if not file.left:
            self._open = None
            os.ftruncate(file.fd, file.entry.size_bytes)
            self._end(file.fd, file.entry, file.state.digest())
        return len(part)

    def _end(self, fd: int, entry: Entry, digest: bytes) -> None:
        if not self._writer.end_file(fd, self._path, entry, digest):
            self.failed.append(self._path)
        self._next += 1


class _OpenFile:
    """A file that has arrived in part."""

    def __init__(self, fd: int, entry: Entry) -> None:
        self.fd = fd
        self.entry = entry
        self.left = entry.size_bytes
        self.state: _Hash = hashlib.sha256()
