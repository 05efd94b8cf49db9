"""The disk space that local paths take, and that carrying them to another tree needs."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Collection, Iterator, NamedTuple, Tuple

from envsync.agent.server.filesystem import clone
from envsync.agent.server.reading import opened_file
from envsync.agent.trees.directory_read import walk

_ALLOCATED_BYTES = 512
"""The unit of `st_blocks`, whatever the filesystem's block size is."""


class DiskUsage(NamedTuple):
    """Allocated bytes and inodes."""

    size_bytes: int
    inodes: int


def disk_usage(tree: bytes, local: Collection[bytes]) -> DiskUsage:
    """Return what a tree's local paths take. Holes do not count, because they stay holes."""
    size_bytes = inodes = 0
    for _, status in entries_of(tree, local):
        size_bytes += status.st_blocks * _ALLOCATED_BYTES
        inodes += 1
    return DiskUsage(size_bytes, inodes)


def added_usage(
    live: bytes, local: Collection[bytes], freed: DiskUsage, beside: bytes
) -> DiskUsage:
    """Return what copies in `beside` of the live tree's local paths need, once `freed` is free."""
    needed = disk_usage(live, local)
    size_bytes = max(0, needed.size_bytes - freed.size_bytes)
    inodes = max(0, needed.inodes - freed.inodes)
    return _unless_shared(DiskUsage(size_bytes, inodes), live, local, beside)


def missing_usage(live: bytes, local: Collection[bytes], tree: bytes) -> DiskUsage:
    """Return what is needed for the live tree's local paths that `tree` lacks or has older."""
    size_bytes = inodes = 0
    for path, status in entries_of(live, local):
        try:
            existing = os.lstat(os.path.join(tree, path[len(live) + 1 :]))
        except OSError:
            inodes += 1
            size_bytes += status.st_blocks * _ALLOCATED_BYTES
            continue
        if stat.S_ISREG(status.st_mode) and existing.st_mtime_ns < status.st_mtime_ns:
            more = max(0, status.st_blocks - existing.st_blocks)
            size_bytes += more * _ALLOCATED_BYTES
    return _unless_shared(DiskUsage(size_bytes, inodes), live, local, os.path.dirname(tree))


def _unless_shared(
    needed: DiskUsage, live: bytes, local: Collection[bytes], beside: bytes
) -> DiskUsage:
    """Return what is needed for copies made in `beside`: no bytes if they can share blocks."""
    if needed.size_bytes and can_share_blocks(live, local, beside):
        return needed._replace(size_bytes=0)
    return needed


def can_share_blocks(tree: bytes, local: Collection[bytes], beside: bytes) -> bool:
    """Return whether copies made in `beside` can share blocks with local files, by trying one."""
    for path, status in entries_of(tree, local):
        if stat.S_ISREG(status.st_mode) and status.st_blocks:
            import tempfile  # loads much, and is rarely needed

            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                old = stack.enter_context(opened_file(path))
                new = stack.enter_context(tempfile.TemporaryFile(dir=os.fsdecode(beside)))
                return clone(old, new.fileno())
    return False


def entries_of(tree: bytes, local: Collection[bytes]) -> Iterator[Tuple[bytes, os.stat_result]]:
    """Yield the full path and status of all that can be read at and below local paths."""
    for top in (os.path.join(tree, path) for path in local):
        with contextlib.suppress(OSError):
            status = os.lstat(top)
            yield top, status
            if stat.S_ISDIR(status.st_mode):
                yield from ((os.path.join(top, path), below) for path, below in walk(top))
