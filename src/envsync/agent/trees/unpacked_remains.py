"""Removes what processes that died had unpacked (see `push.packing.packed_source`)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import List, Optional, Tuple

from envsync.agent.trees.removal import measure, remove_tree

_LOCK = b"lock"


def sweep_unpacked(directory: Optional[str], *, dry_run: bool) -> Tuple[int, int]:
    """Remove what is below the directories in `directory` whose lock is free.

    With `dry_run`, only count it. Returns the number of trees and their size in bytes. The locks
    stay: another process may be about to take one.
    """
    count = size_bytes = 0
    places: List[bytes] = []
    if directory is not None:
        with contextlib.suppress(OSError):
            places = [os.fsencode(entry.path) for entry in os.scandir(directory)]
    for place in places:
        with contextlib.suppress(OSError), open(os.path.join(place, _LOCK), "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in (os.path.join(place, name) for name in os.listdir(place) if name != _LOCK):
                tree_bytes = measure(path)
                if not dry_run:
                    remove_tree(path)
                count += 1
                size_bytes += tree_bytes
    return count, size_bytes
