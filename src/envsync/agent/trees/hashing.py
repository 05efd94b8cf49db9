"""Hashes many files with SHA-256, on several processors if there is enough to do."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections import deque
from typing import Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple

from envsync.agent.server.file_workers import WorkerJob, is_full, processors, run_in_workers
from envsync.agent.server.progress import Progress
from envsync.agent.trees.file_hash import MISSING, READ_BYTES, hash_file
from envsync.agent.trees.needle_search import NeedleSearch
from envsync.agent.trees.unhashed import Unhashed, UnhashedFile
from envsync.tree.entry import split

PARALLEL_FILES_MIN = 2000
PARALLEL_BYTES_MIN = 200 << 20
_READ = struct.Struct("<Q32sH")

_NO_NEEDLES = "needles, kept = (), 0\n"
# The answer is the digest, as from `hash_file`, and whether a content was found to have none of
# the needles. Compiled code is not searched: importlib sets its paths when it loads it.
_WORKER_CODE = """
import hashlib
buffer = bytearray(kept + block)
view = memoryview(buffer)
room = [view[kept:]]
def read(fd, inode, path):
    if os.fstat(fd).st_ino != int(inode):
        return missing
    state, start = hashlib.sha256(), kept
    has_none = needles and b"__pycache__/" not in path
    while True:
        count = os.readv(fd, room)
        if not count:
            return state.digest() + (b"\\1" if has_none else b"\\0")
        state.update(view[kept : kept + count])
        if has_none:
            has_none = not found_in(buffer, start, kept + count, *needles)
            # The end of this block goes in front of the next one.
            buffer[:kept] = buffer[count : count + kept]
            start = max(0, start - count)
"""

OnRead = Callable[[bytes, int, bytes], None]


class Hashing:
    """Hashes files, and takes digests from threads that read them for another reason."""

    def __init__(self, search: Optional[NeedleSearch] = None) -> None:
        """`search` learns which contents have none of its strings, where that costs little."""
        self.search = search
        self._changed = threading.Condition()
        self._readers = 0
        self._first = 0
        self._read: Dict[bytes, bytearray] = {}
        self._reading_in: Optional[bytes] = None
        self._read_through: Deque[bytes] = deque()

    @contextlib.contextmanager
    def going_first(self) -> Iterator[None]:
        """Within the block, make `give_way` wait, because other work needs the interpreter.

        The block may end in another thread than it began in.
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
        """Wait until nobody is `going_first`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._first)

    def each(
        self, top_fd: int, parts: Sequence[Unhashed], progress: Optional[Progress] = None
    ) -> Iterator[Unhashed]:
        """Give each of these files its digest, and yield each part once that is done.

        Digests are taken from threads that are `reading`; the other files are hashed by `files`.
        """
        waiting = {part.directory: part for part in parts}
        is_cut_short = True
        while is_cut_short:
            for directory in self._directories_read():
                part = waiting.get(directory)
                if part is not None and not part.items(self._read_in(directory)):
                    yield waiting.pop(directory)
            is_cut_short = self.files(top_fd, list(waiting.values()), progress)
        yield from waiting.values()

    def _directories_read(self) -> Iterator[bytes]:
        """Yield the directories that have been read; wait for more while a thread is `reading`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._read_through or not self._readers)
                if not self._read_through:
                    return
                directory = self._read_through.popleft()
            yield directory

    def files(
        self, top_fd: int, parts: Sequence[Unhashed], progress: Optional[Progress] = None
    ) -> bool:
        """Give each of these files its digest; `progress` gets the number of bytes hashed.

        If there is much to do, no new batch is begun once a thread is `reading`. Returns whether
        that left some files without a digest.
        """
        files, size_bytes = sum(p.files for p in parts), sum(p.size_bytes for p in parts)
        # The largest first, so that all workers finish at about the same time.
        batches = self._batches(sorted(parts, key=lambda part: part.size_bytes, reverse=True))
        count = processors()
        many = files >= PARALLEL_FILES_MIN or size_bytes >= PARALLEL_BYTES_MIN
        if count > 1 and many:
            return self._in_workers(top_fd, batches, min(count, files), progress)
        for batch in batches:
            for item in batch:
                item.take(hash_file(top_fd, item.path, item.inode) or MISSING)
                if progress:
                    progress(item.size_bytes)
        return False

    @contextlib.contextmanager
    def reading(self) -> Iterator[OnRead]:
        """Within the block, leave hashing to the reader, who passes digests to what is yielded.

        It is called with a path, the inode that was read, and the digest of all its bytes.
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
        # Packed by directory, because there may be 200,000.
        directory, name = split(path)
        if directory != self._reading_in:
            self._is_through(directory)
        packed = self._read.get(directory)
        if packed is None:
            packed = self._read[directory] = bytearray()
        packed += _READ.pack(inode, digest, len(name)) + name

    def _is_through(self, following: bytes) -> None:
        """Note that a directory is done: files come directory by directory."""
        with self._changed:
            if self._reading_in is not None:
                self._read_through.append(self._reading_in)
            self._reading_in = following
            self._changed.notify_all()

    def _read_in(self, directory: bytes) -> Dict[bytes, Tuple[int, bytes]]:
        """Return inode and digest, by name, of files read in a directory since the last call."""
        packed = bytes(self._read.pop(directory, b""))
        digests: Dict[bytes, Tuple[int, bytes]] = {}
        start = 0
        while start < len(packed):
            inode, digest, length = _READ.unpack_from(packed, start)
            start += _READ.size + length
            digests[packed[start - length : start]] = inode, digest
        return digests

    def _batches(self, parts: Sequence[Unhashed]) -> Iterator[List[UnhashedFile]]:
        """Yield batches of about equal work; files that were already read get their digest here."""
        batch: List[UnhashedFile] = []
        size_bytes = 0
        for part in parts:
            read = self._read_in(part.directory)
            for item in part.items(read):
                inode, digest = read.get(item.name, (-1, b""))
                if inode == item.inode:
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
        batches: Iterator[List[UnhashedFile]],
        count: int,
        progress: Optional[Progress],
    ) -> bool:
        is_cut_short = False

        def until_somebody_reads() -> Iterator[List[UnhashedFile]]:
            nonlocal is_cut_short
            while True:
                is_cut_short = bool(self._readers)
                batch = None if is_cut_short else next(batches, None)
                if batch is None:
                    return
                yield batch

        search = self.search
        needles = _NO_NEEDLES if search is None else search.needles.code()
        job = WorkerJob(needles + _WORKER_CODE, MISSING + b"\0", READ_BYTES)

        def take(batch: List[UnhashedFile], answers: List[bytes]) -> None:
            for item, answer in zip(batch, answers):
                item.take(answer[:-1])
                if search is not None and answer[-1]:  # it has none of the needles
                    search.without.add(answer[:-1])
            if progress:
                progress(sum(item.size_bytes for item in batch))

        run_in_workers(job, top_fd, count, until_somebody_reads(), _request, take)
        return is_cut_short


def _request(item: UnhashedFile) -> bytes:
    return b"%d/%s" % (item.inode, item.path)
