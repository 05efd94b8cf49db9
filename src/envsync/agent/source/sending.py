"""Encodes a source's contents as blocks, for a target on another server.

Reading and compressing overlap; a few blocks are prepared ahead of sending.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Deque, Iterator, Sequence, Tuple

from envsync.agent.wire import codec

_BLOCKS_AHEAD = 6
_WORKERS = {codec.STREAMED: 1, codec.ZSTD: 2, codec.ZLIB: 2, codec.NONE: 1}
_LEVELS = {codec.STREAMED: 2, codec.ZSTD: 1, codec.ZLIB: 1, codec.NONE: 0}


def own_step(target: Sequence[str]) -> Tuple[str, int]:
    """Return codec and level for a target that can decode the codecs in `target`."""
    name = best_codec(target)
    return name, _LEVELS[name]


def best_codec(target: Sequence[str]) -> str:
    """Return the best codec that this interpreter can encode and the target can decode."""
    return next((name for name in codec.encodable() if name in target), codec.NONE)


def encoded_blocks(contents: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Yield the stream as blocks, each of at most `codec.BLOCK_BYTES_MAX` of content."""
    ahead: Deque[Future[bytes]] = deque()
    encoder = codec.Encoder(name, _LEVELS[name])
    with ThreadPoolExecutor(_WORKERS[name], thread_name_prefix="compress") as pool:
        for part in contents:
            for start in range(0, len(part), codec.BLOCK_BYTES_MAX):
                piece = part[start : start + codec.BLOCK_BYTES_MAX]
                ahead.append(pool.submit(encoder.block, piece))
            while len(ahead) > _BLOCKS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def items_of(payload: bytes, sizes: Sequence[int]) -> Tuple[Tuple[bytes, int], ...]:
    """Return the NUL-separated paths in `payload` with their sizes in bytes.

    Raises ValueError if the numbers of paths and sizes differ.
    """
    paths = payload.split(b"\0") if payload else []
    if len(paths) != len(sizes):
        raise ValueError(f"{len(paths)} paths, {len(sizes)} sizes")
    return tuple(zip(paths, sizes))
