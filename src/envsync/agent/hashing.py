"""SHA-256 of many files, on all processors where there is enough to do.

Python's threads gain next to nothing here: half of all files are below 4 KiB, and the
interpreter's lock is held for most of each. So large batches go to worker processes, which
are started afresh (never forked: the parent has threads that hold OpenSSL's locks).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES = 1 << 18
SMALL_BYTES = 1 << 15
PARALLEL_FILES_MIN = 2000
PARALLEL_BYTES_MIN = 200 << 20
MISSING = b"\0" * 32
"""In place of a digest: the file is gone or may not be read."""

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_WORKER = """
import hashlib, os, struct, sys
flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
block, top = {block}, {top}
source, sink = sys.stdin.buffer, sys.stdout.buffer
buffer = bytearray(block)
view = memoryview(buffer)
def digest(request):
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
while True:
    head = source.read(4)
    if len(head) < 4:
        break
    requests = source.read(struct.unpack("<I", head)[0]).split(b"\\0")
    sink.write(b"".join([digest(request) for request in requests]))
    sink.flush()
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
        self._read: Dict[bytes, Tuple[int, bytes]] = {}

    def files(self, top_fd: int, items: Sequence[Item], progress: Optional[Progress]) -> Digests:
        """As `hash_files`. While somebody is `reading` nothing new is begun here."""
        size_bytes = sum(item.size_bytes for item in items)
        processors = _processors()
        many = len(items) >= PARALLEL_FILES_MIN or size_bytes >= PARALLEL_BYTES_MIN
        if processors > 1 and many:
            return self._in_workers(top_fd, items, processors, progress)
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
        self._read[path] = inode, digest

    def _in_workers(
        self,
        top_fd: int,
        items: Sequence[Item],
        processors: int,
        progress: Optional[Progress],
    ) -> Digests:
        batches = _batches(items)
        results: Digests = {}
        lock = threading.Lock()
        failures: List[BaseException] = []

        def serve() -> None:
            try:
                with _Worker(top_fd) as worker:
                    while True:
                        self._await_readers()
                        with lock:
                            if not batches:
                                return
                            batch = self._take(batches.pop(0), results)
                        digests = worker.digests(batch) if batch else []
                        with lock:
                            results.update(zip([item.path for item in batch], digests))
                            if progress:
                                progress(sum(item.size_bytes for item in batch))
            except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
                failures.append(error)

        count = min(processors, len(batches))
        threads = [threading.Thread(target=serve, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return results

    def _await_readers(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._readers)

    def _take(self, batch: List[Item], results: Digests) -> List[Item]:
        """What of a batch is still to be hashed; the digests of the rest are results now."""
        left: List[Item] = []
        for item in batch:
            inode, digest = self._read.get(item.path, (0, b""))
            if digest and item.inode in (0, inode):
                results[item.path] = digest
            else:
                left.append(item)
        return left


def _processors() -> int:
    return min(8, len(os.sched_getaffinity(0)))


def _batches(items: Sequence[Item]) -> List[List[Item]]:
    """Batches of about equal work, the largest files first and alone."""
    batches: List[List[Item]] = []
    batch: List[Item] = []
    weight = 0
    for item in sorted(items, key=lambda item: item.size_bytes, reverse=True):
        batch.append(item)
        weight += item.size_bytes + 32768
        if weight > 16 << 20:
            batches.append(batch)
            batch, weight = [], 0
    if batch:
        batches.append(batch)
    return batches


class _Worker:
    """A fresh interpreter that hashes what it is told."""

    def __init__(self, top_fd: int) -> None:
        code = _WORKER.format(block=BLOCK_BYTES, top=top_fd)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a Ctrl-C reaches it, too, and is nothing to tell
            pass_fds=(top_fd,),
        )

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()

    def digests(self, items: Sequence[Item]) -> List[Optional[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = b"\0".join([b"%d/%s" % (item.inode, item.path) for item in items])
        self._process.stdin.write(struct.pack("<I", len(request)) + request)
        self._process.stdin.flush()
        answer = self._process.stdout.read(32 * len(items))
        if len(answer) != 32 * len(items):
            raise OSError("a hashing worker ended early")
        parts: List[Tuple[int, int]] = [(at, at + 32) for at in range(0, len(answer), 32)]
        return [None if answer[a:b] == MISSING else answer[a:b] for a, b in parts]
