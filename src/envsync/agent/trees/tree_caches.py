"""The cache files of trees, each named `DEVICE-INODE-KEY`, in hexadecimal digits.

So the name tells which files to remove when the tree is gone. But the tree of another prefix, or on
a disk that is not mounted right now, cannot be told from one that is gone, so only files that were
not used for a while are removed. Losing one only means that its tree is hashed again.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Collection, List, Optional, Tuple

Tree = Tuple[int, int]
"""Device and inode of a top directory."""

UNUSED_SECONDS = 7 * 86400.0
"""Well above a day, because with `relatime`, the usual mount option, atimes are updated once a
day."""

_NAME = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-[0-9a-f]+\Z")


def cache_path(directory: Optional[str], tree: Tree, key: str) -> Optional[str]:
    """Return the path of a tree's cache file for a key, or None if there is no cache directory."""
    start = cache_start(directory, tree)
    return None if start is None else start + key


def cache_start(directory: Optional[str], tree: Tree) -> Optional[str]:
    """Return the part of `cache_path` before the key."""
    return None if directory is None else os.path.join(directory, f"{tree[0]:x}-{tree[1]:x}-")


def cache_paths(directory: Optional[str], tree: Tree) -> List[str]:
    """Return the paths of all cache files of a tree, whatever their keys, the newest first."""
    start, found = cache_start(directory, tree), []
    if directory is not None and start is not None:
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if path.startswith(start) and _tree_of(name) == tree:
                    with contextlib.suppress(OSError):
                        found.append((os.lstat(path).st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def _tree_of(name: str) -> Optional[Tree]:
    """Return the tree that a file belongs to; None for any other file, such as a temporary one."""
    matched = _NAME.match(name)
    return None if matched is None else (int(matched[1], 16), int(matched[2], 16))


def sweep_caches(
    directory: Optional[str], alive: Collection[Tree], now_seconds: float, *, dry_run: bool
) -> Tuple[int, int]:
    """Remove cache files that belong to no tree in `alive` and that were not used lately.

    With `dry_run`, only count them. Returns their number and their size in bytes.
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
            if _tree_of(name) in alive or now_seconds - used_seconds < UNUSED_SECONDS:
                continue
            if not dry_run:
                os.unlink(path)
            files += 1
            size_bytes += status.st_size
    return files, size_bytes
