"""Runs batches of files through worker interpreters, on all processors.

Threads gain next to nothing here: half of all files are below 4 KiB, and the interpreter's lock is
held most of the time for such files. The workers are started as new processes, never forked,
because the parent has threads that may hold OpenSSL's locks.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from typing import Callable, Iterator, List, NamedTuple, Sequence, TypeVar

from envsync.errors import AgentFailed

_BATCH_BYTES = 16 << 20
_BATCH_FILES = 2000
_FILE_WEIGHT_BYTES = 32 << 10

WORKER_MARK = b"# an envsync worker"
"""Marks the command line of every worker, which opens files only to read them."""

_LOOP = """%s
import os, struct, sys
source, sink = sys.stdin.buffer, sys.stdout.buffer
flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
block, top, missing = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
%s
def answer(request):
    seen, _, path = request.partition(b"/")
    try:
        fd = os.open(path, flags, dir_fd=top)
    except OSError:
        return missing
    try:
        return read(fd, seen, path)
    except OSError:
        return missing
    finally:
        os.close(fd)
while True:
    head = source.read(4)
    if len(head) < 4:
        break
    requests = source.read(struct.unpack("<I", head)[0]).split(b"\\0")
    sink.write(b"".join([answer(request) for request in requests]))
    sink.flush()
"""

T = TypeVar("T")


class WorkerJob(NamedTuple):
    """What workers do: `code` defines `read(fd: int, seen: bytes, path: bytes) -> bytes`.

    It is called with each file, opened for reading, and what the request says was seen of it.
    Of one that cannot be read, the answer is `missing`, whose length all answers have. The code
    can use `os`, `missing`, and `block` (how many bytes to read at once).
    """

    code: str
    missing: bytes
    block_bytes: int


def processors() -> int:
    """Return how many workers are useful on this machine."""
    return min(8, len(os.sched_getaffinity(0)))


def is_full(files: int, size_bytes: int) -> bool:
    """Return whether this many files, of `size_bytes` in total, make a full batch."""
    return size_bytes + files * _FILE_WEIGHT_BYTES > _BATCH_BYTES or files == _BATCH_FILES


def batches(files: Sequence[T], size_bytes: Callable[[T], int]) -> List[List[T]]:
    """Return batches of about equal work, those of large files first."""
    result: List[List[T]] = []
    batch: List[T] = []
    total_bytes = 0
    for file in sorted(files, key=size_bytes, reverse=True):
        batch.append(file)
        total_bytes += size_bytes(file)
        if is_full(len(batch), total_bytes):
            result.append(batch)
            batch, total_bytes = [], 0
    if batch:
        result.append(batch)
    return result


def run_in_workers(
    job: WorkerJob,
    top_fd: int,
    count: int,
    batches: Iterator[List[T]],
    request: Callable[[T], bytes],
    take: Callable[[List[T], List[bytes]], None],
) -> None:
    """Give batches of files to `count` workers; `take` gets each file's answer.

    A `request` is `SEEN/PATH`, with the path below `top_fd`; no NUL is in it. Each worker has a
    thread that feeds it. One thread at a time takes from `batches`, which may wait, or calls
    `take`. Raises the first exception of any thread.
    """
    lock = threading.Lock()
    failures: List[BaseException] = []

    def serve() -> None:
        try:
            with lock:
                batch = next(batches, [])
            if not batch:
                return
            with _Worker(job, top_fd) as worker:
                while batch:
                    answers = worker.ask([request(file) for file in batch])
                    with lock:
                        take(batch, answers)
                        batch = next(batches, [])
        except BaseException as error:  # noqa: BLE001  (raised again below)
            failures.append(error)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class _Worker:
    def __init__(self, job: WorkerJob, top_fd: int) -> None:
        import subprocess  # not at the agent's start, as it is rarely needed

        self._answer_bytes = len(job.missing)
        code = _LOOP % (WORKER_MARK.decode(), job.code)
        arguments = [str(job.block_bytes), str(top_fd), job.missing.hex()]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # hides the traceback when a Ctrl-C reaches it too
            pass_fds=(top_fd,),
        )

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> int:
        """End the worker; return its exit status, negative if a signal ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait()

    def ask(self, requests: Sequence[bytes]) -> List[bytes]:
        """Return the answers; `AgentFailed` if the worker ended before it gave them all."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        size_bytes, request, answer = self._answer_bytes, b"\0".join(requests), b""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(struct.pack("<I", len(request)) + request)
            self._process.stdin.flush()
            answer = self._process.stdout.read(size_bytes * len(requests))
        if len(answer) != size_bytes * len(requests):
            raise AgentFailed(
                f"a process that reads files ended unexpectedly (exit status {self._end()})",
                hint="if memory ran out there (see `dmesg`), free some, then try again",
            )
        return [answer[at : at + size_bytes] for at in range(0, len(answer), size_bytes)]
