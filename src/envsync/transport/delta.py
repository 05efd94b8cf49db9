"""Sends only the new blocks of large files of which the target has another version."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from envsync.agent.server.reading import opened_file
from envsync.agent.staging.blocks import (
    BLOCK_BYTES,
    COPY_RUN,
    DATA_RUN,
    LARGE_BYTES,
    RUN,
    Blocks,
    parse,
)
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.outgoing import BLOCK_BYTES as PIECE_BYTES
from envsync.agent.trees.outgoing import GONE, HEAD
from envsync.agent.wire.transfer_operations import BLOCKS, AskBlocks
from envsync.errors import AgentFailed
from envsync.transport.block_runs import is_alike, runs
from envsync.transport.job import Item, Job

Known = Mapping[bytes, Blocks]


def known_blocks(job: Job) -> Known:
    """Return the blocks that the target has of the job's large files, by path.

    Files of which it has little are left out. Nothing is returned for a source on another server,
    or if the target is this machine.
    """
    if not job.has_versions or job.target.link is None or job.supply.relayed is not None:
        return {}
    large = [item for item in job.items if item[1] >= LARGE_BYTES and item[0] not in job.rewritten]
    sampled = _reported_blocks(job, large, is_sample=True)
    alike = [item for item in large if _is_alike(job, *item, sampled[item[0]])]
    return _reported_blocks(job, alike, is_sample=False)


def _reported_blocks(job: Job, items: Sequence[Item], *, is_sample: bool) -> dict[bytes, Blocks]:
    if not items:
        return {}
    paths = [path for path, _ in items]
    encoded = job.target.ask(BLOCKS, AskBlocks(is_sample, b"\0".join(paths)))
    try:
        known_of_each = parse(encoded, [size_bytes for _, size_bytes in items])
        return dict(zip(paths, known_of_each, strict=True))
    except ValueError as error:
        raise AgentFailed(f"the target sent {error}") from error


def _is_alike(job: Job, path: bytes, size_bytes: int, sample: Blocks) -> bool:
    with _opened(job, path) as fd:
        return fd >= 0 and is_alike(fd, size_bytes, sample)


@contextlib.contextmanager
def _opened(job: Job, path: bytes) -> Iterator[int]:
    """Open a file of the source: yield its descriptor, or -1 if that fails."""
    fd = -1
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            top_fd = stack.enter_context(opened_directory(job.supply.path))
            fd = stack.enter_context(opened_file(path, top_fd))
        yield fd


class Patches:
    """Reads the items as a stream for `agent.staging.blocks.Patching`; replaces `Job.contents`."""

    def __init__(self, job: Job, known: Known) -> None:
        self._job = job
        self._known = known

    def __call__(
        self, items: Collection[Item], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[bytes]:
        piece = bytearray()
        for number, item in enumerate(items):
            for part, content_bytes in self._parts(number, item):
                piece += part
                if progress:
                    progress(0, content_bytes)
                if len(piece) >= PIECE_BYTES - BLOCK_BYTES - RUN.size:
                    yield bytes(piece)
                    piece.clear()
        yield bytes(piece)

    def _parts(self, number: int, item: Item) -> Iterator[tuple[bytes, int]]:
        """Yield the parts of one file's stream, each with the bytes of content it stands for."""
        path, size_bytes = item
        with _opened(self._job, path) as fd:
            yield HEAD.pack(number, size_bytes if fd >= 0 else GONE), 0
            for first, count, data in runs(fd, size_bytes, self._known[path]) if fd >= 0 else ():
                if data:
                    yield RUN.pack(DATA_RUN, 0, len(data)) + data, len(data)
                else:
                    yield RUN.pack(COPY_RUN, first, count), count * BLOCK_BYTES
