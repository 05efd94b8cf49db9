"""Searches files for a few byte strings, on all processors.

A result counts only if the file still has the status that a scan saw.
"""

from __future__ import annotations

import os
from typing import List, NamedTuple, Sequence, Set

from envsync.agent.server.file_workers import WorkerJob, batches, processors, run_in_workers
from envsync.agent.server.reading import READ_FLAGS
from envsync.conda.needles import PLAIN, WIDE, Needles

SEARCH_READ_BYTES = 1 << 20
_FILES_PER_WORKER = 200
_FEW_FILES, _FEW_BYTES = 300, 8 << 20
_CHANGED = 4  # used instead of a result

_WORKER_CODE = """
def read(fd, seen, path):
    found, tail = 0, b""
    while found < 3:
        data = os.read(fd, block)
        if not data:
            break
        tail += data
        found |= found_in(tail, 0, len(tail), *needles)
        if len(data) < block and os.fstat(fd).st_size <= block:
            break
        tail = tail[-kept:]
    now = os.fstat(fd)
    status = b"%d %d %d %d" % (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    return bytes([found]) if status == seen else missing
"""


class FileToSearch(NamedTuple):
    """A file to search: its path below the top, and the status that the scan saw."""

    path: bytes
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


class SearchResult(NamedTuple):
    """Paths of files that contain a string, plain or wide, and of files that have changed."""

    holding: Set[bytes]
    holding_wide: Set[bytes]
    changed: Set[bytes]

    def note(self, path: bytes, answer: int) -> None:
        if answer & PLAIN:
            self.holding.add(path)
        if answer & WIDE:
            self.holding_wide.add(path)
        if answer & _CHANGED:
            self.changed.add(path)


def search(top_fd: int, needles: Needles, candidates: Sequence[FileToSearch]) -> SearchResult:
    """Search each of these files for the strings."""
    result = SearchResult(set(), set(), set())
    size_bytes = sum(candidate.size_bytes for candidate in candidates)
    if needles.plain and len(candidates) <= _FEW_FILES and size_bytes <= _FEW_BYTES:
        for candidate in candidates:
            result.note(candidate.path, _look(top_fd, needles, candidate))
    elif needles.plain and candidates:
        _search_in_workers(top_fd, needles, candidates, result)
    return result


def _look(top_fd: int, needles: Needles, candidate: FileToSearch) -> int:
    """Search a file in this process, for searches shorter than the start of a worker."""
    try:
        fd = os.open(candidate.path, READ_FLAGS, dir_fd=top_fd)
        with open(fd, "rb") as file:
            content = file.read()
            status = os.fstat(fd)
    except OSError:
        return _CHANGED
    seen = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    if seen != candidate[1:]:
        return _CHANGED
    return needles.found_in(content)


def _search_in_workers(
    top_fd: int, needles: Needles, candidates: Sequence[FileToSearch], result: SearchResult
) -> None:
    def take(batch: List[FileToSearch], answers: List[bytes]) -> None:
        for candidate, answer in zip(batch, answers):
            result.note(candidate.path, answer[0])

    job = WorkerJob(needles.code() + _WORKER_CODE, bytes([_CHANGED]), SEARCH_READ_BYTES)
    count = max(1, min(processors(), len(candidates) // _FILES_PER_WORKER))
    large_first = iter(batches(candidates, lambda candidate: candidate.size_bytes))
    run_in_workers(job, top_fd, count, large_first, _request, take)


def _request(candidate: FileToSearch) -> bytes:
    return b"%d %d %d %d/%s" % (*candidate[1:], candidate.path)
