"""A digest over a tree's ctimes, to skip a scan if nothing has changed.

Any change to an entry changes its ctime, and creating, renaming or removing an entry changes
that of the directory. So a rescan only has to compare this digest, at a fraction of the cost of
a scan; if it differs, the tree is scanned.
"""

from __future__ import annotations

import hashlib
import os
import time
from array import array

YOUNG_SECONDS = 2.0
"""An inode that changed less than this ago can change again and keep the same ctime."""

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def digest(environment: str) -> str:
    """Return a digest that stays the same as long as the tree is unchanged.

    Empty if the tree cannot be read, or changed less than `YOUNG_SECONDS` ago.
    """
    hashed = hashlib.sha256()
    old_ns = time.time_ns() - int(YOUNG_SECONDS * 1e9)
    try:
        top_fd = os.open(os.path.realpath(environment), _DIRECTORY_FLAGS)
    except OSError:
        return ""
    try:
        top = os.fstat(top_fd)
        hashed.update(repr((top.st_dev, top.st_ino, top.st_ctime_ns)).encode())
        pending = [""]
        while pending:
            directory = pending.pop()
            changes, below = _read(top_fd, directory)
            hashed.update(os.fsencode(directory))
            if changes and max(changes) > old_ns:
                return ""
            hashed.update(changes)
            pending += below
    except OSError:
        return ""
    finally:
        os.close(top_fd)
    return hashed.hexdigest()


def _read(top_fd: int, directory: str) -> tuple[array[int], list[str]]:
    """Return the ctime of each entry of a directory in nanoseconds, and its subdirectories."""
    above = f"{directory}/" if directory else ""
    fd = os.open(directory or ".", _DIRECTORY_FLAGS, dir_fd=top_fd)
    try:
        with os.scandir(fd) as scanned:
            entries = list(scanned)
        changes = array("q", [entry.stat(follow_symlinks=False).st_ctime_ns for entry in entries])
        below = [above + entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(fd)
    return changes, below
