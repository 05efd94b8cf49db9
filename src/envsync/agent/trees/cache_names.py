"""Names of cache files that belong to one tree, `DEVICE-INODE-KEY` in hexadecimal digits, so that
they are removed when the tree is gone."""

from __future__ import annotations

import os
import re
from typing import Optional, Tuple

Tree = Tuple[int, int]
"""Device and inode of a top directory."""

_NAME = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-[0-9a-f]+\Z")


def cache_path(directory: Optional[str], tree: Tree, key: str) -> Optional[str]:
    """The file of a tree for what goes by that key; None where nothing can be remembered."""
    start = cache_start(directory, tree)
    return None if start is None else start + key


def cache_start(directory: Optional[str], tree: Tree) -> Optional[str]:
    """How that path begins, before the key."""
    return None if directory is None else os.path.join(directory, "%x-%x-" % tree)


def tree_of(name: str) -> Optional[Tree]:
    """Whose a file is; None for one that never got its name."""
    matched = _NAME.match(name)
    return None if matched is None else (int(matched[1], 16), int(matched[2], 16))
