"""Freeing content-cache files whose tree is gone.

A file names its tree by device and inode only. One of another prefix, or of a disk that is
not mounted right now, cannot be told from one whose tree is gone; so only what nothing has
used for a while goes. Losing one costs hashing that tree again, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Collection, NamedTuple, Optional, Tuple

UNUSED_SECONDS = 7 * 86400.0
"""`relatime`, the usual mount option, notes a file's use once a day."""

_FILE = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-[0-9a-f]+\Z")

Tree = Tuple[int, int]
"""Device and inode of a top directory."""


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
            if _tree(name) in alive or now_seconds - used_seconds < UNUSED_SECONDS:
                continue
            if not dry_run:
                os.unlink(path)
            files += 1
            size_bytes += status.st_size
    return Swept(files, size_bytes)


def _tree(name: str) -> Optional[Tree]:
    """Whose cache a file is; None for one that never got its name."""
    matched = _FILE.match(name)
    return None if matched is None else (int(matched[1], 16), int(matched[2], 16))
