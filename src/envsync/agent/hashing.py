"""SHA-256 of many files, on all processors where there is enough to do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import threading
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence

from envsync.agent.file_workers import FileWorkers, Job, batches, processors

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES = 1 << 18
SMALL_BYTES = 1 << 15
PARALLEL_FILES_MIN = 2000
PARALLEL_BYTES_MIN = 200 << 20
_INODE = struct.Struct("<Q")
MISSING = b"\0" * 32
"""In place of a digest: the file is gone or may not be read."""

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

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


class Item:
    """A file to hash: its path relative to the top, and its size for balancing.

    Where `inode` is given, another file that is found at the path counts as missing.
    """

    __slots__ = ("inode", "path", "size_bytes")

    def __init__(self, path: bytes, size_bytes: int, inode: int = 0) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.inode = inode


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
        fd = os.open(path, _FILE_FLAGS, dir_fd=top_fd)
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
        fd = os.open(path, _FILE_FLAGS, dir_fd=top_fd)
        try:
            hash_open_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return error
    return None


Digests = Dict[bytes, Optional[bytes]]


def hash_files(top_fd: int, items: Sequence[Item], progress: Optional[Progress] = None) -> Digests:
    """Digests by path; None for a file that cannot be read. `progress` gets bytes hashed."""
    return Hashing().files(top_fd, items, progress)


class Hashing:
    """Hashes files, and lets whoever reads them for another reason do it in its place."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._read: Dict[bytes, bytes] = {}

    def files(self, top_fd: int, items: Sequence[Item], progress: Optional[Progress]) -> Digests:
        """As `hash_files`. While somebody is `reading` nothing new is begun here."""
        size_bytes = sum(item.size_bytes for item in items)
        count = processors()
        many = len(items) >= PARALLEL_FILES_MIN or size_bytes >= PARALLEL_BYTES_MIN
        if count > 1 and many:
            return self._in_workers(top_fd, items, count, progress)
        digests: Digests = {}
        for item in items:
            digests[item.path] = hash_file(top_fd, item.path, item.inode)
            if progress:
                progress(item.size_bytes)
        return digests

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
        # Packed: there may be 200,000.
        self._read[path] = _INODE.pack(inode) + digest

    def _in_workers(
        self, top_fd: int, items: Sequence[Item], count: int, progress: Optional[Progress]
    ) -> Digests:
        left = batches(items, lambda item: item.size_bytes)
        results: Digests = {}
        lock = threading.Lock()

        def next_batch() -> List[Item]:
            batch: List[Item] = []
            while not batch:
                self._await_readers()
                with lock:
                    if not left:
                        break
                    batch = self._take(left.pop(), results)
            return batch

        def take(batch: List[Item], answers: List[bytes]) -> None:
            with lock:
                for item, answer in zip(batch, answers):
                    results[item.path] = None if answer == MISSING else answer
                if progress:
                    progress(sum(item.size_bytes for item in batch))

        workers = FileWorkers(Job(_CODE, len(MISSING), BLOCK_BYTES), top_fd, _request)
        workers.run(min(count, len(left)), next_batch, take)
        return results

    def _await_readers(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._readers)

    def _take(self, batch: List[Item], results: Digests) -> List[Item]:
        """What of a batch is still to be hashed; the digests of the rest are results now."""
        left: List[Item] = []
        for item in batch:
            read = self._read.pop(item.path, b"")
            if read and item.inode in (0, *_INODE.unpack_from(read)):
                results[item.path] = read[_INODE.size :]
            else:
                left.append(item)
        return left


def _request(item: Item) -> bytes:
    return b"%d/%s" % (item.inode, item.path)
