"""Names of cache files that belong to one tree: `DEVICE-INODE-KEY`, in hexadecimal digits.

The name tells which files to remove when the tree is gone.
"""

from __future__ import annotations

import os
import re
from typing import Optional, Tuple

Tree = Tuple[int, int]
"""Device and inode of a top directory."""

_NAME = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-[0-9a-f]+\Z")


def cache_path(directory: Optional[str], tree: Tree, key: str) -> Optional[str]:
    """Return the path of a tree's cache file for a key, or None if there is no cache directory."""
    start = cache_start(directory, tree)
    return None if start is None else start + key


def cache_start(directory: Optional[str], tree: Tree) -> Optional[str]:
    """Return the part of `cache_path` before the key."""
    return None if directory is None else os.path.join(directory, f"{tree[0]:x}-{tree[1]:x}-")


def tree_of(name: str) -> Optional[Tree]:
    """Return the tree that a file belongs to; None for any other file, such as a temporary one."""
    matched = _NAME.match(name)
    return None if matched is None else (int(matched[1], 16), int(matched[2], 16))
