"""Estimates what files come to on the wire, from a sample of the blocks that would be sent."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from envsync.agent.server.reading import opened_file
from envsync.agent.trees.outgoing import BLOCK_BYTES, GONE, HEAD, PART_BYTES, padded
from envsync.agent.wire import codec
from envsync.agent.wire.source_operations import SampleFacts

SAMPLE_BLOCKS_MAX = 24
"""The number of blocks that are read and compressed at first; less is taken in full."""

UNEVEN_BLOCKS_MAX = 512
"""The number for contents whose blocks differ much, or are nearly nothing, such as zeros: a few may
be most of what is sent. The others are compressed in hardly any time."""

_NEARLY_NOTHING = 1 / 50
_STANDARD_ERROR_MAX = 0.15
"""The relative error of the mean block that is aimed at: half of what a prediction may be off."""

Steps = Sequence[Tuple[str, int]]
Items = Sequence[Tuple[bytes, int]]
Instead = Callable[[bytes], Optional[bytes]]


class _Cost(NamedTuple):
    """A block: its size, and for each step its compressed size and the seconds that took."""

    stream_bytes: int
    by_step: List[Tuple[int, float]]


_Part = Tuple[int, int, int]
"""A part of a file: the file's number, and where the part starts and ends in it."""


def sampled(
    top_fd: int, items: Items, steps: Steps, instead: Instead = lambda _: None
) -> SampleFacts:
    """Return what the stream of these files (see `outgoing`) comes to with each codec and level.

    It is exact for as many blocks as a sample has.
    """
    count = sum(1 for _ in _blocks(items))
    stream_bytes = sum(HEAD.size + size_bytes for _, size_bytes in items)
    # A file's parts follow one another, and a large one takes long to rewrite.
    instead = functools.lru_cache(maxsize=1)(instead)

    def costs(taken: int) -> Sequence[_Cost]:
        chosen = frozenset(number * count // taken for number in range(taken))
        blocks = (
            b"".join(_read(top_fd, items, part, instead) for part in parts)
            for number, parts in enumerate(_blocks(items))
            if number in chosen
        )
        return _costs(blocks, steps)

    if count <= SAMPLE_BLOCKS_MAX:
        return _scaled(costs(count), len(steps))
    first = costs(SAMPLE_BLOCKS_MAX)
    wanted = min(_blocks_wanted(first), count)
    found = costs(wanted) if wanted > len(first) else first
    return _scaled(found, len(steps), stream_bytes)


def estimated(blocks: Iterable[bytes], steps: Steps, stream_bytes: int) -> SampleFacts:
    """Return what a stream of that size comes to, from its first block and some of the others."""
    return _scaled(_costs(blocks, steps), len(steps), stream_bytes)


def _costs(blocks: Iterable[bytes], steps: Steps) -> Sequence[_Cost]:
    encoders = [codec.Encoder(name, level) for name, level in steps]
    return [_Cost(len(block), [_timed(encoder, block) for encoder in encoders]) for block in blocks]


def _timed(encoder: codec.Encoder, block: bytes) -> Tuple[int, float]:
    began = time.monotonic()
    return len(encoder.block(block)), time.monotonic() - began


def _blocks_wanted(costs: Sequence[_Cost]) -> int:
    """Return how many blocks a sample needs, from what those of a first one came to."""
    # By the last step, which compresses most. The first block can be unlike the others.
    sizes = [cost.by_step[-1][0] for cost in costs[1:] if cost.by_step]
    mean = sum(sizes) / max(1, len(sizes))
    if mean < _NEARLY_NOTHING * BLOCK_BYTES:
        return UNEVEN_BLOCKS_MAX
    variance = sum((size - mean) ** 2 for size in sizes) / (len(sizes) - 1)
    return min(UNEVEN_BLOCKS_MAX, math.ceil(variance / (mean * _STANDARD_ERROR_MAX) ** 2))


def _scaled(costs: Sequence[_Cost], steps: int, stream_bytes: Optional[int] = None) -> SampleFacts:
    """Return what a stream comes to of which these are all blocks, or else a sample.

    The first block counts once: where each block continues the last, what they all repeat is in it.
    """
    scale = 1.0
    if stream_bytes is not None and len(costs) > 1:
        first, *others = (cost.stream_bytes for cost in costs)
        scale = (stream_bytes - first) / max(1, sum(others))
    sizes, seconds = [0.0] * steps, [0.0] * steps
    for number, cost in enumerate(costs):
        for step, (size_bytes, taken_seconds) in enumerate(cost.by_step):
            sizes[step] += size_bytes * (scale if number else 1)
            seconds[step] += taken_seconds * (scale if number else 1)
    return SampleFacts(tuple(map(round, sizes)), tuple(seconds))


def _blocks(items: Items) -> Iterator[List[_Part]]:
    """Yield the blocks that `outgoing` makes of these files, as parts of them."""
    parts: List[_Part] = []
    gathered_bytes = 0
    for number, (_, size_bytes) in enumerate(items):
        for start in range(0, max(1, size_bytes), PART_BYTES):
            end = min(size_bytes, start + PART_BYTES)
            part_bytes = end - start + (0 if start else HEAD.size)
            if gathered_bytes + part_bytes > BLOCK_BYTES:
                yield parts
                parts, gathered_bytes = [], 0
            parts.append((number, start, end))
            gathered_bytes += part_bytes
    if parts:
        yield parts


def _read(top_fd: int, items: Items, part: _Part, instead: Instead) -> bytes:
    """Return a part of a file as it would be sent, with the file's head at its start."""
    number, start, end = part
    path, size_bytes = items[number]
    head = b"" if start else HEAD.pack(number, size_bytes)
    with contextlib.suppress(OSError, ValueError):
        substitute = instead(path)
        if substitute is not None:
            return head + substitute[start:end].ljust(end - start, b"\0")
        with opened_file(path, top_fd) as fd:
            os.lseek(fd, start, os.SEEK_SET)
            return head + padded(fd, end - start)[0]
    return b"" if start else HEAD.pack(number, GONE)
