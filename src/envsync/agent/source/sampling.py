"""Estimates how well files compress, from a sample of their blocks."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import time
from typing import Iterator, List, Sequence, Tuple

from envsync.agent.server.reading import opened_file
from envsync.agent.trees.outgoing import BLOCK_BYTES
from envsync.agent.wire import codec
from envsync.agent.wire.source_operations import SampleFacts

SAMPLE_BLOCKS_MAX = 24
"""The number of blocks that are read and compressed; smaller contents are taken in full."""

SPARSE_BLOCKS_MAX = 512
"""The number for contents that are nearly nothing, such as zeros, where a few other blocks may be
most of what is sent; compressing them takes hardly any time."""

_NEARLY_NOTHING = 1 / 50

Steps = Sequence[Tuple[str, int]]


def sampled(top_fd: int, items: Sequence[Tuple[bytes, int]], steps: Steps) -> SampleFacts:
    """Return the sample's size, and its compressed size and time for each codec and level."""
    sample = _sampled(top_fd, items, steps, SAMPLE_BLOCKS_MAX)
    is_sparse = min(sample.packed_bytes, default=0) < _NEARLY_NOTHING * sample.content_bytes
    is_all = sample.content_bytes == sum(size_bytes for _, size_bytes in items)
    if is_sparse and not is_all:
        return _sampled(top_fd, items, steps, SPARSE_BLOCKS_MAX)
    return sample


def _sampled(
    top_fd: int, items: Sequence[Tuple[bytes, int]], steps: Steps, blocks_max: int
) -> SampleFacts:
    content_bytes = 0
    packed = [0] * len(steps)
    seconds = [0.0] * len(steps)
    encoders = [codec.Encoder(name, level) for name, level in steps]
    for block in _blocks(top_fd, items, blocks_max):
        content_bytes += len(block)
        for number, encoder in enumerate(encoders):
            began = time.monotonic()
            packed[number] += len(encoder.block(block))
            seconds[number] += time.monotonic() - began
    return SampleFacts(content_bytes, tuple(packed), tuple(seconds))


def _blocks(top_fd: int, items: Sequence[Tuple[bytes, int]], blocks_max: int) -> Iterator[bytes]:
    """Yield blocks, evenly spaced over the contents of all files, taken as one sequence."""
    ends = list(itertools.accumulate(size for _, size in items))
    total = ends[-1] if ends else 0
    count = -(-total // BLOCK_BYTES)
    taken = min(count, blocks_max)
    for number in range(taken):
        start = number * count // taken * BLOCK_BYTES
        block = b"".join(_parts(top_fd, items, ends, start))
        if block:
            yield block


def _parts(
    top_fd: int, items: Sequence[Tuple[bytes, int]], ends: List[int], start: int
) -> Iterator[bytes]:
    """Yield the parts of the block that begins at `start`, skipping files that cannot be read."""
    end = min(start + BLOCK_BYTES, ends[-1])
    number = bisect.bisect_right(ends, start)
    while start < end:
        path, size_bytes = items[number]
        begin = ends[number] - size_bytes
        length = min(end, ends[number]) - start
        with contextlib.suppress(OSError), opened_file(path, top_fd) as fd:
            yield os.pread(fd, length, start - begin)
        start += length
        number += 1
