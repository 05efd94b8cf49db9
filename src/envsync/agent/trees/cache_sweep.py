"""Removes cache files of trees that are gone.

A file names its tree by device and inode only. The tree of another prefix, or on a disk that is
not mounted right now, cannot be told from one that is gone, so only files that were not used for
a while are removed. Losing one only means that its tree is hashed again.
"""

from __future__ import annotations

import contextlib
import os
from typing import Collection, NamedTuple, Optional

from envsync.agent.trees.cache_names import Tree, tree_of

UNUSED_SECONDS = 7 * 86400.0
"""Well above a day, because with `relatime`, the usual mount option, atimes are updated once a
day."""


class Swept(NamedTuple):
    files: int
    size_bytes: int


def sweep_cache(
    directory: Optional[str], alive: Collection[Tree], now_seconds: float, *, dry_run: bool
) -> Swept:
    """Remove cache files that belong to no tree in `alive` and that were not used lately.

    With `dry_run`, only count them.
    """
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
