"""Carrying a server's own paths from the version that stands there into the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import Iterable, Optional, Set

from envsync.agent.removal import remove_tree


def carry(
    live: Optional[bytes], local: Iterable[bytes], staging: bytes, stale: Iterable[bytes]
) -> Set[bytes]:
    """Make the staging's local paths those of the live tree, and nothing else of it.

    `local` are the live tree's, `stale` the staging's. Best effort, file by file: these are
    caches and settings of one machine, and the live tree may be in use. Returns the
    directories in which something was made or removed.
    """
    touched: Set[bytes] = set()
    for path in stale:
        remove_tree(os.path.join(staging, path))
        touched.add(os.path.dirname(path))
    for path in local if live is not None else ():
        assert live is not None
        touched.add(os.path.dirname(path))
        with contextlib.suppress(OSError, shutil.Error):
            _copy(os.path.join(live, path), os.path.join(staging, path), staging)
    return touched


def _copy(source: bytes, target: bytes, top: bytes) -> None:
    parent = os.path.dirname(target)
    if not os.path.isdir(parent):
        os.makedirs(parent, mode=0o755)
    if os.path.realpath(parent) != os.path.join(os.path.realpath(top), parent[len(top) + 1 :]):
        # Some directory on the way is a link in the new version.
        return
    kind = os.lstat(source).st_mode
    if stat.S_ISDIR(kind):
        shutil.copytree(os.fsdecode(source), os.fsdecode(target), symlinks=True)
    elif stat.S_ISREG(kind) or stat.S_ISLNK(kind):
        shutil.copy2(source, target, follow_symlinks=False)
