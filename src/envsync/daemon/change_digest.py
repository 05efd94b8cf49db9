"""A digest over a tree's inode changes, to skip a scan where nothing changed.

Whatever is done to an entry changes its inode's ctime, and whatever is made, renamed or
removed that of the directory. So this is all that a rescan has to ask for, at a fraction of
what a scan costs; where the digest is another one, it is scanned.
"""

from __future__ import annotations

import hashlib
import os
import time
from array import array

YOUNG_SECONDS = 2.0
"""An inode that changed so shortly ago may change again and show the same time."""

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def digest(environment: str) -> str:
    """A digest that stays the same while the tree is unchanged; empty where that is unknown."""
    found = hashlib.sha256()
    old_ns = time.time_ns() - int(YOUNG_SECONDS * 1e9)
    try:
        top_fd = os.open(os.path.realpath(environment), _DIRECTORY_FLAGS)
    except OSError:
        return ""
    try:
        top = os.fstat(top_fd)
        found.update(repr((top.st_dev, top.st_ino, top.st_ctime_ns)).encode())
        pending = [""]
        while pending:
            directory = pending.pop()
            changes, below = _read(top_fd, directory)
            found.update(os.fsencode(directory))
            if changes and max(changes) > old_ns:
                return ""
            found.update(changes)
            pending += below
    except OSError:
        return ""
    finally:
        os.close(top_fd)
    return found.hexdigest()


def _read(top_fd: int, directory: str) -> tuple[array[int], list[str]]:
    """The ctime of each entry of one directory, and the directories in it."""
    above = f"{directory}/" if directory else ""
    fd = os.open(directory or ".", _DIRECTORY_FLAGS, dir_fd=top_fd)
    try:
        with os.scandir(fd) as found:
            entries = list(found)
        changes = array("q", [one.stat(follow_symlinks=False).st_ctime_ns for one in entries])
        below = [above + one.name for one in entries if one.is_dir(follow_symlinks=False)]
    finally:
        os.close(fd)
    return changes, below
