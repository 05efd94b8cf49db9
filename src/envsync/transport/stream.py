"""The transport stream: one compressed stream over the open session.

Reading, compressing, sending and writing overlap. How hard it compresses is adapted on the way
(`transport.effort`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from envsync.agent.wire import codec
from envsync.agent.wire.figures import RECEIVED_FILES, OnFigure
from envsync.agent.wire.operation import Operation
from envsync.agent.wire.transfer_operations import PATCH, RECEIVE, ReceiveFacts
from envsync.transport import delta
from envsync.transport.effort import CRAWLING_BYTES_PER_SECOND, BlockTiming, Effort, Step
from envsync.transport.job import Increase, Job, Sent
from envsync.transport.names import STREAM

_BLOCKS_AHEAD = 8
WORKERS_MAX = 2
_CREDIT_SECONDS = 0.1
"""Time without sending that may be made up for under a limit; more would be a burst."""

# From the least effort to the most. On one processor, with the environment of `bench`: 1.2 GB/s and
# 2.1 times smaller; 900 MB/s and 2.5 times; 600 MB/s and 3.2 times; 350 MB/s and another half
# percent smaller.
_STREAMED_STEPS = (
    Step(codec.STREAMED, -10),
    Step(codec.STREAMED, -2, begins=True),
    Step(codec.STREAMED, 2),
    Step(codec.STREAMED, 3, CRAWLING_BYTES_PER_SECOND),
)
# For ends that can only compress each block by itself: level 3 has 350 MB/s, 2.7 times smaller.
_ZSTD_STEPS = (Step(codec.ZSTD, -5), Step(codec.ZSTD, 1, 180e6), Step(codec.ZSTD, 3, 50e6))
# zlib has 50 MB/s, which pays only on a slow link.
_ZLIB_STEPS = (Step("none", 0), Step("zlib", 1, 40e6))
_PLAIN_STEPS = (Step("none", 0),)


class StreamTransport:
    """Sends over the session that is already open; needs nothing on the target but Python."""

    name = STREAM

    def refusal(self, job: Job) -> str | None:  # noqa: ARG002
        return None

    def send(self, job: Job) -> Sent:
        known = delta.known_blocks(job)
        if not known:
            return self._send(job, RECEIVE)
        changed = job.only([item for item in job.items if item[0] in known])
        patched = replace(job.supply, contents=delta.Patches(job, known))
        sent = self._send(replace(changed, supply=patched), PATCH)
        others = [item for item in job.items if item[0] not in known]
        return sent + self._send(job.only(others), RECEIVE) if others else sent

    def _send(self, job: Job, operation: Operation[bytes, ReceiveFacts]) -> Sent:
        return self.send_as(job, partial(job.target.ask, operation, job.selection()))

    def send_as(self, job: Job, ask: Callable[[Iterator[bytes], OnFigure], ReceiveFacts]) -> Sent:
        """Send the job by calling `ask` with the blocks and a callback for the target's progress.

        `ask` returns the target's answer.
        """
        counter, files = _Counter(job.limit_bits_per_second), Increase(job.on_files)

        def hear(figure: str, value: int) -> None:
            if figure == RECEIVED_FILES:
                files.up_to(value)

        # Closed even if the target stops half-way, to end the threads that make the blocks.
        with contextlib.closing(_blocks(job)) as blocks:
            received = ask(counter.counted(blocks), hear)
        files.up_to(received.files)  # the last ones are in the answer only
        return Sent(counter.wire_bytes, failed_paths(received))


def _blocks(job: Job) -> Generator[bytes, None, None]:
    """Yield the job's files as blocks, encoded here or by the server that has them."""
    if job.supply.relayed is not None:
        yield from job.supply.relayed(job.items, job.target.codecs, job.on_sent)
    else:
        yield from encoded(job, Effort(steps(job), job.size_bytes))


def steps(job: Job) -> tuple[Step, ...]:
    """Return the compression steps that both ends support."""
    if job.target.link is None:
        return _PLAIN_STEPS
    both = [name for name in codec.encodable() if name in job.target.codecs]
    ladders = {
        codec.STREAMED: _STREAMED_STEPS,
        codec.ZSTD: _ZSTD_STEPS,
        codec.ZLIB: _ZLIB_STEPS,
    }
    return ladders.get(both[0] if both else "", _PLAIN_STEPS)


def failed_paths(received: ReceiveFacts) -> tuple[bytes, ...]:
    """Return the paths whose contents arrived wrong or not at all, by the answer to a transfer."""
    return tuple(path.encode("utf-8", "surrogateescape") for path in received.failed)


def workers_for(name: str) -> int:
    """Return how many threads can compress with a codec; one if each block continues the last."""
    return 1 if name == codec.STREAMED else WORKERS_MAX


def encoded(job: Job, effort: Effort) -> Iterator[bytes]:
    """Yield the job's files as blocks, a few of which other threads make ahead.

    `on_sent` is called in the consuming thread.
    """
    ahead = _ReadAhead(job, effort)
    try:
        yield from ahead.blocks()
    finally:
        ahead.stop()


class _Block(NamedTuple):
    """A block being compressed; `read_bytes` were read from files since the previous block."""

    packed: Future[bytes]
    content_bytes: int
    read_bytes: int


class _ReadAhead:
    """A thread that reads and a few that compress, about `_BLOCKS_AHEAD` unsent blocks ahead."""

    def __init__(self, job: Job, effort: Effort) -> None:
        self._job = job
        self._effort = effort
        self._ready: queue.Queue[_Block | BaseException | None] = queue.Queue(_BLOCKS_AHEAD)
        self._stopped = threading.Event()
        self._step = effort.step
        self._encoder = codec.Encoder(self._step.codec, self._step.level)
        workers = min(workers_for(self._step.codec), len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="compress")
        self._read_bytes = 0
        self._thread = threading.Thread(target=self._read, name="read ahead", daemon=True)
        self._thread.start()

    def blocks(self) -> Iterator[bytes]:
        while True:
            waiting = self._ready.qsize()
            item = self._ready.get()
            if item is None:
                break
            if isinstance(item, BaseException):
                raise item
            is_done = item.packed.done()
            packed = item.packed.result()
            began = time.monotonic()
            yield packed
            timing = BlockTiming(
                item.content_bytes,
                len(packed),
                time.monotonic() - began,
                by_link=waiting >= _BLOCKS_AHEAD - 1 and is_done,
                # If no block is waiting, reading is what takes long.
                by_processor=waiting > 1 and not is_done,
            )
            if self._job.is_taken():
                self._effort.observe(timing)
            self._job.on_sent(item.read_bytes)
        self._job.on_sent(self._read_bytes)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read(self) -> None:
        try:
            for block in self._job.supply.contents(self._job.items, self._count):
                for start in range(0, len(block), codec.BLOCK_BYTES_MAX):
                    self._submit(block[start : start + codec.BLOCK_BYTES_MAX])
                if self._stopped.is_set():
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that consumes
            self._put(error)

    def _count(self, _: int, size_bytes: int) -> None:
        self._read_bytes += size_bytes

    def _submit(self, block: bytes) -> None:
        step = self._effort.step
        if step != self._step:
            self._step, self._encoder = step, codec.Encoder(step.codec, step.level)
        packed = self._pool.submit(self._encoder.block, block)
        read_bytes, self._read_bytes = self._read_bytes, 0
        self._put(_Block(packed, len(block), read_bytes))

    def _put(self, item: _Block | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.5)
                return
            except queue.Full:
                continue


class _Counter:
    """Counts the bytes sent, and delays them if there is a limit."""

    def __init__(self, limit_bits_per_second: int | None) -> None:
        self._limit = limit_bits_per_second
        self.wire_bytes = 0

    def counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        due = time.monotonic()
        for block in blocks:
            for piece in self._pieces(block):
                self.wire_bytes += len(piece)
                if self._limit:
                    now = time.monotonic()
                    due = max(due, now - _CREDIT_SECONDS) + len(piece) * 8 / self._limit
                    time.sleep(max(0.0, due - now))
                yield piece

    def _pieces(self, block: bytes) -> Iterator[bytes]:
        """Yield the block whole, or in pieces of about 0.1 s of the limit."""
        if not self._limit:
            yield block
            return
        step = max(4096, self._limit // 80)
        for start in range(0, len(block), step):
            yield block[start : start + step]
