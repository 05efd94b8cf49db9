"""One compressed stream over the session that is open already.

Reading, compressing, sending and writing overlap: files are read and compressed in a
thread of their own while the block before is on its way.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

from envsync.agent import codec
from envsync.transport.job import Job, Sent

_BLOCKS_AHEAD = 8


class StreamTransport:
    """Needs nothing on the target but Python."""

    name = "stream"

    def refusal(self, job: Job) -> str | None:
        return None

    def send(self, job: Job) -> Sent:
        chosen = codec.choose(codec.available(), job.codecs)
        counter = _Counter(job.limit_bits_per_second)
        blocks = counter.counted(_ahead(compressed(job, chosen)))
        payload = b"" if job.all_fetches else b"\0".join(path for path, _ in job.items)
        answer = job.ask("build.receive", {"codec": chosen}, payload, blocks)
        failed = tuple(_encode(path) for path in answer.document["failed"])
        return Sent(counter.wire_bytes, failed)


def compressed(job: Job, codec_name: str) -> Iterator[bytes]:
    """The job's files as one compressed stream."""
    machine = codec.compressor(codec_name)
    for block in job.contents(job.items, lambda _, size_bytes: job.on_sent(size_bytes)):
        data = machine.compress(block)
        if data:
            yield data
    rest = machine.flush()
    if rest:
        yield rest


def _encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


class _Counter:
    """Counts what goes out, and holds it back where there is a limit."""

    def __init__(self, limit_bits_per_second: int | None) -> None:
        self._limit = limit_bits_per_second
        self.wire_bytes = 0

    def counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        started = time.monotonic()
        for block in blocks:
            for piece in self._pieces(block):
                self.wire_bytes += len(piece)
                if self._limit:
                    due = started + self.wire_bytes * 8 / self._limit
                    time.sleep(max(0.0, due - time.monotonic()))
                yield piece

    def _pieces(self, block: bytes) -> Iterator[bytes]:
        """The block itself, or what the limit lets through in about a tenth of a second."""
        step = max(4096, self._limit // 80) if self._limit else len(block)
        for start in range(0, len(block), step):
            yield block[start : start + step]


_End = tuple[None, BaseException | None]


def _ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, made in another thread, a few of them ahead."""
    ready: queue.Queue[tuple[bytes, None] | _End] = queue.Queue(_BLOCKS_AHEAD)
    stopped = threading.Event()

    def put(item: tuple[bytes, None] | _End) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.5)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            for block in blocks:
                put((block, None))
                if stopped.is_set():
                    return
            put((None, None))
        except BaseException as error:  # handed to the thread that consumes
            put((None, error))

    thread = threading.Thread(target=make, name="read ahead", daemon=True)
    thread.start()
    try:
        yield from _until_end(ready.get)
    finally:
        stopped.set()
        thread.join()


def _until_end(get: Callable[[], tuple[bytes, None] | _End]) -> Iterator[bytes]:
    while True:
        block, error = get()
        if error is not None:
            raise error
        if block is None:
            return
        yield block
