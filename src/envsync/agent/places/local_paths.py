"""Carrying a server's own paths from the version that stands there into the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import AnyStr, Iterable, Set


def carry(live: bytes, local: Iterable[bytes], staging: bytes) -> Set[bytes]:
    """Copy the live tree's local paths into a staging tree that has none.

    Best effort, file by file: these are caches and settings of one machine, and the live
    tree may be in use. A file is copied whole or not at all. Returns the directories in which
    something was made.
    """
    touched: Set[bytes] = set()
    for path in local:
        touched.add(os.path.dirname(path))
        with contextlib.suppress(OSError, shutil.Error, RecursionError):
            _copy(os.path.join(live, path), os.path.join(staging, path), staging)
    return touched


def _copy(source: bytes, target: bytes, top: bytes) -> None:
    parent = os.path.dirname(target)
    below = os.path.relpath(parent, top)
    if os.path.realpath(parent) != os.path.normpath(os.path.join(os.path.realpath(top), below)):
        # Some directory on the way is a link in the new version.
        return
    os.makedirs(parent, mode=0o755, exist_ok=True)
    kind = os.lstat(source).st_mode
    if stat.S_ISDIR(kind):
        shutil.copytree(
            os.fsdecode(source), os.fsdecode(target), symlinks=True, copy_function=_copy_whole
        )
    elif stat.S_ISREG(kind) or stat.S_ISLNK(kind):
        _copy_whole(source, target, follow_symlinks=False)


def _copy_whole(source: AnyStr, target: AnyStr, *, follow_symlinks: bool = True) -> AnyStr:
    """Half of a file (a disk that is full, or fails) would be worse than none."""
    try:
        return shutil.copy2(source, target, follow_symlinks=follow_symlinks)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(target)
        raise
