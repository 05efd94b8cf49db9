"""SHA-256 of many files, on all processors where there is enough to do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import threading
from collections import deque
from stat import S_IFREG
from typing import (
    TYPE_CHECKING,
    Callable,
    Deque,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from envsync.agent.server.file_workers import FileWorkers, Job, is_full, processors
from envsync.agent.server.reading import READ_FLAGS
from envsync.agent.trees.stat_rows import INODE_MASK, KIND_MASK, unpack
from envsync.tree.entry import join, split

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES = 1 << 18
SMALL_BYTES = 1 << 15
PARALLEL_FILES_MIN = 2000
PARALLEL_BYTES_MIN = 200 << 20
_READ = struct.Struct("<Q32sH")
MISSING = b"\0" * 32
"""In place of a digest: the file is gone or may not be read."""


_CODE = """
import hashlib
buffer = bytearray(block)
view = memoryview(buffer)
def answer(request):
    inode, _, path = request.partition(b"/")
    try:
        fd = os.open(path, flags, dir_fd=top)
    except OSError:
        return bytes(32)
    try:
        if int(inode) and os.fstat(fd).st_ino != int(inode):
            return bytes(32)
        state = hashlib.sha256()
        while True:
            count = os.readv(fd, [buffer])
            if not count:
                return state.digest()
            state.update(view[:count])
    except OSError:
        return bytes(32)
    finally:
        os.close(fd)
"""

Progress = Callable[[int], None]
OnRead = Callable[[bytes, int, bytes], None]


_NOTHING_READ: Mapping[bytes, Tuple[int, bytes]] = {}


class Item:
    """A file to hash: its path relative to the top, its size, and the row that it has.

    Where `inode` is given, another file that is found at the path counts as missing.
    """

    __slots__ = ("digests", "inode", "name", "path", "row", "size_bytes")

    def __init__(
        self, part: Unhashed, row: int, name: bytes, size_bytes: int, inode: int = 0
    ) -> None:
        self.path = join(part.directory, name)
        self.digests = part.digests
        self.row = row
        self.name = name
        self.size_bytes = size_bytes
        self.inode = inode

    def take(self, digest: bytes) -> None:
        """Have its digest."""
        at = self.row * len(MISSING)
        self.digests[at : at + len(MISSING)] = digest


class Unhashed:
    """The files of one directory that have to be hashed: objects only when it is their turn.

    `rows` is the directory's packed status. `digests` has one for each row: `MISSING` for
    what is to be hashed, and for what is no file, and afterwards for what could not be read.
    """

    __slots__ = ("digests", "directory", "files", "rows", "size_bytes")

    def __init__(
        self, directory: bytes, rows: bytes, digests: bytearray, files: int, size_bytes: int
    ) -> None:
        self.directory = directory
        self.rows = rows
        self.digests = digests
        self.files = files
        self.size_bytes = size_bytes

    def items(self, read: Mapping[bytes, Tuple[int, bytes]] = _NOTHING_READ) -> List[Item]:
        """The files, the largest first; but not those whose inode and digest were `read`."""
        digests, size = self.digests, len(MISSING)
        found: List[Item] = []
        for number, row in enumerate(unpack(self.rows)):
            at = number * size
            if row.mode & KIND_MASK != S_IFREG or digests[at : at + size] != MISSING:
                continue
            wanted = row.inode & INODE_MASK
            inode, digest = read.get(row.name, (-1, b""))
            if inode >= 0 and wanted in (0, inode):
                digests[at : at + size] = digest
            else:
                found.append(Item(self, number, row.name, row.size_bytes, wanted))
        found.sort(key=lambda item: item.size_bytes, reverse=True)
        return found

    def contents(self) -> List[bytes]:
        """The digests, row by row."""
        digests, size = bytes(self.digests), len(MISSING)
        return [digests[at : at + size] for at in range(0, len(digests), size)]


def hash_open_file(fd: int) -> bytes:
    """SHA-256 from the current position to the end."""
    state = hashlib.sha256()
    block = os.read(fd, SMALL_BYTES)
    while block:
        state.update(block)
        if len(block) == SMALL_BYTES:
            return _hash_rest(fd, state)
        block = os.read(fd, SMALL_BYTES)
    return state.digest()


def _hash_rest(fd: int, state: _Hash) -> bytes:
    # One large buffer for a large file; for a small one, having it costs more than reading.
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    while True:
        count = os.readv(fd, [buffer])
        if not count:
            return state.digest()
        state.update(view[:count])


def hash_file(top_fd: int, path: bytes, inode: int = 0) -> Optional[bytes]:
    """SHA-256 of a file below an open directory; None where it cannot be read.

    So it is where `inode` is given and another file is found.
    """
    try:
        fd = os.open(path, READ_FLAGS, dir_fd=top_fd)
    except OSError:
        return None
    try:
        if inode and os.fstat(fd).st_ino != inode:
            return None
        return hash_open_file(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def why_unreadable(top_fd: int, path: bytes) -> Optional[OSError]:
    """The error that reading a file ends with; None where it can be read (now)."""
    try:
        fd = os.open(path, READ_FLAGS, dir_fd=top_fd)
        try:
            hash_open_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return error
    return None


class Hashing:
    """Hashes files, and lets whoever reads them for another reason do it in its place."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._first = 0
        self._read: Dict[bytes, bytearray] = {}
        self._reading_in: Optional[bytes] = None
        self._read_through: Deque[bytes] = deque()

    @contextlib.contextmanager
    def going_first(self) -> Iterator[None]:
        """While it lasts, whoever prepares to hash waits: the interpreter is needed elsewhere.

        It may end in another thread than it began in.
        """
        with self._changed:
            self._first += 1
        try:
            yield
        finally:
            with self._changed:
                self._first -= 1
                self._changed.notify_all()

    def give_way(self) -> None:
        """Wait for who is going first."""
        with self._changed:
            self._changed.wait_for(lambda: not self._first)

    def each(
        self, top_fd: int, parts: Sequence[Unhashed], progress: Optional[Progress] = None
    ) -> Iterator[Unhashed]:
        """Give each of these files its digest; the parts, each when it has all of its own.

        As `files` otherwise, which does what nobody has read.
        """
        waiting = {part.directory: part for part in parts}
        for directory in self._directories_read():
            part = waiting.get(directory)
            if part is not None and not part.items(self._read_in(directory)):
                yield waiting.pop(directory)
        rest = list(waiting.values())
        self.files(top_fd, rest, progress)
        yield from rest

    def _directories_read(self) -> Iterator[bytes]:
        """While somebody is `reading`: the directories that he is through with."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._read_through or not self._readers)
                if not self._read_through:
                    return
                directory = self._read_through.popleft()
            yield directory

    def files(
        self, top_fd: int, parts: Sequence[Unhashed], progress: Optional[Progress] = None
    ) -> None:
        """Give each of these files its digest; `progress` gets bytes hashed.

        While somebody is `reading` nothing new is begun here, where there is much to do.
        """
        files, size_bytes = sum(p.files for p in parts), sum(p.size_bytes for p in parts)
        # The largest first, so that nobody has much to do when the others are done.
        batches = self._batches(sorted(parts, key=lambda part: part.size_bytes, reverse=True))
        count = processors()
        many = files >= PARALLEL_FILES_MIN or size_bytes >= PARALLEL_BYTES_MIN
        if count > 1 and many:
            self._in_workers(top_fd, batches, min(count, files), progress)
            return
        for batch in batches:
            for item in batch:
                item.take(hash_file(top_fd, item.path, item.inode) or MISSING)
                if progress:
                    progress(item.size_bytes)

    @contextlib.contextmanager
    def reading(self) -> Iterator[OnRead]:
        """While it lasts, digests are only made by who reads, and given to what it yields.

        That gets a path, the inode that was read, and the digest of all of its bytes.
        """
        with self._changed:
            self._readers += 1
        try:
            yield self._add
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def _add(self, path: bytes, inode: int, digest: bytes) -> None:
        # Packed, a directory's together: there may be 200,000.
        directory, name = split(path)
        if directory != self._reading_in:
            self._is_through(directory)
        packed = self._read.get(directory)
        if packed is None:
            packed = self._read[directory] = bytearray()
        packed += _READ.pack(inode, digest, len(name)) + name

    def _is_through(self, following: bytes) -> None:
        """Files come directory by directory, and the next one is another."""
        with self._changed:
            if self._reading_in is not None:
                self._read_through.append(self._reading_in)
            self._reading_in = following
            self._changed.notify_all()

    def _read_in(self, directory: bytes) -> Dict[bytes, Tuple[int, bytes]]:
        """Inode and digest by name of what was read in a directory since it was last asked for."""
        packed = bytes(self._read.pop(directory, b""))
        found: Dict[bytes, Tuple[int, bytes]] = {}
        start = 0
        while start < len(packed):
            inode, digest, length = _READ.unpack_from(packed, start)
            start += _READ.size + length
            found[packed[start - length : start]] = inode, digest
        return found

    def _batches(self, parts: Sequence[Unhashed]) -> Iterator[List[Item]]:
        """Batches of about equal work; what was read already has its digest then."""
        batch: List[Item] = []
        size_bytes = 0
        for part in parts:
            read = self._read_in(part.directory)
            for item in part.items(read):
                inode, digest = read.get(item.name, (-1, b""))
                if inode >= 0 and item.inode in (0, inode):
                    item.take(digest)
                    continue
                batch.append(item)
                size_bytes += item.size_bytes
                if is_full(len(batch), size_bytes):
                    yield batch
                    batch, size_bytes = [], 0
                    read.update(self._read_in(part.directory))
        if batch:
            yield batch

    def _in_workers(
        self,
        top_fd: int,
        batches: Iterator[List[Item]],
        count: int,
        progress: Optional[Progress],
    ) -> None:
        lock = threading.Lock()

        def next_batch() -> List[Item]:
            self._await_readers()
            with lock:
                return next(batches, [])

        def take(batch: List[Item], answers: List[bytes]) -> None:
            with lock:
                for item, answer in zip(batch, answers):
                    item.take(answer)
                if progress:
                    progress(sum(item.size_bytes for item in batch))

        workers = FileWorkers(Job(_CODE, len(MISSING), BLOCK_BYTES), top_fd, _request)
        workers.run(count, next_batch, take)

    def _await_readers(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._readers)


def _request(item: Item) -> bytes:
    return b"%d/%s" % (item.inode, item.path)
