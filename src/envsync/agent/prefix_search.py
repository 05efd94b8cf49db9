"""Which files hold one of a few strings, by reading them: on all processors.

Always in fresh interpreters, as `envsync.agent.hashing` does it and for the same reasons.
A file counts only where it still has the status that a scan saw.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from typing import List, NamedTuple, Optional, Sequence, Set

BLOCK_BYTES = 1 << 20
_BATCH_BYTES = 16 << 20
_BATCH_FILES = 2000
_FILE_WEIGHT_BYTES = 32768
_FILES_PER_WORKER = 200
_FEW_FILES, _FEW_BYTES = 300, 8 << 20
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_ABSENT, _FOUND, _CHANGED = 0, 1, 2

_WORKER = """
import os, struct, sys
flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
block, top = int(sys.argv[1]), int(sys.argv[2])
needles = [bytes.fromhex(text) for text in sys.argv[3:]]
kept = max(map(len, needles)) - 1
source, sink = sys.stdin.buffer, sys.stdout.buffer
def look(request):
    status, _, path = request.partition(b"/")
    inode, size, mtime, ctime = map(int, status.split())
    try:
        fd = os.open(path, flags, dir_fd=top)
    except OSError:
        return 2
    try:
        found, tail = 0, b""
        while not found:
            data = os.read(fd, block)
            if not data:
                break
            tail += data
            found = any(needle in tail for needle in needles)
            if len(data) < block and os.fstat(fd).st_size <= block:
                break
            tail = tail[-kept:]
        is_same = os.fstat(fd)
        seen = is_same.st_ino, is_same.st_size, is_same.st_mtime_ns, is_same.st_ctime_ns
        return int(found) if seen == (inode, size, mtime, ctime) else 2
    except OSError:
        return 2
    finally:
        os.close(fd)
while True:
    head = source.read(4)
    if len(head) < 4:
        break
    requests = source.read(struct.unpack("<I", head)[0]).split(b"\\0")
    sink.write(bytes(map(look, requests)))
    sink.flush()
"""


class Candidate(NamedTuple):
    """A file to look into: its path below the top, and the status that it had."""

    path: bytes
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


class Found(NamedTuple):
    """Paths that hold one of the strings, and paths that are not as they were any more."""

    holding: Set[bytes]
    changed: Set[bytes]

    def note(self, path: bytes, answer: int) -> None:
        if answer == _FOUND:
            self.holding.add(path)
        elif answer != _ABSENT:
            self.changed.add(path)


def search(top_fd: int, needles: Sequence[bytes], candidates: Sequence[Candidate]) -> Found:
    """Look for the strings in each of these files."""
    found = Found(set(), set())
    size_bytes = sum(candidate.size_bytes for candidate in candidates)
    if needles and len(candidates) <= _FEW_FILES and size_bytes <= _FEW_BYTES:
        for candidate in candidates:
            found.note(candidate.path, _look(top_fd, needles, candidate))
    elif needles and candidates:
        _Search(top_fd, needles, candidates, found).run()
    return found


def _look(top_fd: int, needles: Sequence[bytes], candidate: Candidate) -> int:
    """What a worker does, for so little that it is done before a worker could start."""
    try:
        fd = os.open(candidate.path, _FILE_FLAGS, dir_fd=top_fd)
    except OSError:
        return _CHANGED
    with open(fd, "rb") as file:
        content = file.read()
        status = os.fstat(fd)
    seen = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    if seen != candidate[1:]:
        return _CHANGED
    return _FOUND if any(needle in content for needle in needles) else _ABSENT


class _Search:
    """Batches on their way to workers, and what came back."""

    def __init__(
        self,
        top_fd: int,
        needles: Sequence[bytes],
        candidates: Sequence[Candidate],
        found: Found,
    ) -> None:
        self._top_fd = top_fd
        self._needles = needles
        self._batches = _batches(candidates)
        self._found = found
        self._lock = threading.Lock()
        self._failures: List[BaseException] = []
        processors = min(8, len(os.sched_getaffinity(0)))
        self._workers = max(1, min(processors, len(candidates) // _FILES_PER_WORKER))

    def run(self) -> None:
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _serve(self) -> None:
        try:
            with _Worker(self._top_fd, self._needles) as worker:
                while True:
                    batch = self._next()
                    if batch is None:
                        return
                    answers = worker.ask(batch)
                    with self._lock:
                        for candidate, answer in zip(batch, answers):
                            self._found.note(candidate.path, answer)
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            self._failures.append(error)

    def _next(self) -> Optional[List[Candidate]]:
        with self._lock:
            return self._batches.pop() if self._batches else None


def _batches(candidates: Sequence[Candidate]) -> List[List[Candidate]]:
    """Batches of about equal work, to be taken from the end: the largest files first."""
    batches: List[List[Candidate]] = []
    batch: List[Candidate] = []
    weight = 0
    for candidate in sorted(candidates, key=lambda one: one.size_bytes):
        batch.append(candidate)
        weight += candidate.size_bytes + _FILE_WEIGHT_BYTES
        if weight > _BATCH_BYTES or len(batch) == _BATCH_FILES:
            batches.append(batch)
            batch, weight = [], 0
    if batch:
        batches.append(batch)
    return batches


class _Worker:
    """A fresh interpreter that looks into what it is told."""

    def __init__(self, top_fd: int, needles: Sequence[bytes]) -> None:
        arguments = [str(BLOCK_BYTES), str(top_fd), *(needle.hex() for needle in needles)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _WORKER, *arguments],
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

    def ask(self, batch: Sequence[Candidate]) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = b"\0".join([b"%d %d %d %d/%s" % (*one[1:], one.path) for one in batch])
        self._process.stdin.write(struct.pack("<I", len(request)) + request)
        self._process.stdin.flush()
        answer = self._process.stdout.read(len(batch))
        if len(answer) != len(batch):
            raise OSError("a searching worker ended early")
        return answer
