"""Removes content-cache files of trees that are gone.

A file names its tree by device and inode only. One of another prefix, or of a disk that is
not mounted right now, cannot be told from one whose tree is gone; so only what nothing has
used for a while goes. Losing one costs hashing that tree again, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from typing import Collection, NamedTuple, Optional

from envsync.agent.trees.cache_names import Tree, tree_of

UNUSED_SECONDS = 7 * 86400.0
"""`relatime`, the usual mount option, notes a file's use once a day."""


class Swept(NamedTuple):
    files: int
    size_bytes: int


def sweep_cache(
    directory: Optional[str], alive: Collection[Tree], now_seconds: float, *, dry_run: bool
) -> Swept:
    """Remove the cache files of trees that are not `alive` and that nothing has used lately."""
    files = size_bytes = 0
    names = []
    if directory is not None:
        with contextlib.suppress(OSError):
            names = os.listdir(directory)
    for name in names:
        with contextlib.suppress(OSError):
            path = os.path.join(str(directory), name)
            status = os.lstat(path)
            used_seconds = max(status.st_atime, status.st_mtime)
            if tree_of(name) in alive or now_seconds - used_seconds < UNUSED_SECONDS:
                continue
            if not dry_run:
                os.unlink(path)
            files += 1
            size_bytes += status.st_size
    return Swept(files, size_bytes)
