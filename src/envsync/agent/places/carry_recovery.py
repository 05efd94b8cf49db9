"""Undoes an interrupted carry of local paths into an earlier version, before that is used.

A staging tree does not need this: the next push removes its local paths first.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Collection, Iterator, List, Set

from envsync.agent.places.local_disk_usage import entries_of
from envsync.agent.trees.directory_read import opened_below, opened_directory, path_of
from envsync.agent.trees.file_copy import UNFINISHED
from envsync.tree import listing as listings
from envsync.tree.difference import difference
from envsync.tree.entry import DIRECTORY, join, split
from envsync.tree.manifest import Manifest

_MADE = 0o700
"""The permissions of a directory made by a carry, until everything is in it."""


def undo_interrupted_carry(
    tree: bytes, local: Collection[bytes], recorded: Manifest, present: Manifest
) -> None:
    """Remove what an interrupted carry left.

    Incomplete local files are removed, and empty directories that were to hold some. The version's
    own directories that contained these or were left open get their recorded modes and mtimes.
    `local` are the tree's local paths, and `present` is its manifest now, without them. What this
    user cannot change stays as it is.
    """
    torn = [path for path, status in entries_of(tree, local) if _is_torn(status)]
    touched: Set[bytes] = set()
    with opened_directory(tree) as top_fd:
        for path in torn:
            directory, name = split(path[len(tree) + 1 :])
            touched.add(directory)
            with contextlib.suppress(OSError), opened_below(directory, top_fd) as fd:
                os.chmod(path_of(fd), stat.S_IMODE(os.fstat(fd).st_mode) | stat.S_IRWXU)
                os.unlink(name, dir_fd=fd)
        for path in sorted(_empty(recorded, present), reverse=True):
            directory, name = split(path)
            touched.add(directory)
            with contextlib.suppress(OSError), opened_below(directory, top_fd) as fd:
                os.rmdir(name, dir_fd=fd)
        _stamp(top_fd, recorded, touched.union(_left_open(recorded, present)))


def _is_torn(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == UNFINISHED


def _empty(recorded: Manifest, present: Manifest) -> List[bytes]:
    """Return directories as a carry makes them, if they are the only difference between the two."""
    added, *others = difference(recorded, present)
    if any(others):
        return []
    entries = [present.find(path) for path in added]
    are_made = all(
        entry is not None and entry.kind == DIRECTORY and entry.mode & 0o777 == _MADE
        for entry in entries
    )
    return list(added) if are_made else []


def _left_open(recorded: Manifest, present: Manifest) -> Iterator[bytes]:
    """Yield the version's directories whose mode was changed only by giving the owner full access.

    Any other mode was set by a person. A changed mtime alone is ignored: processes write there.
    """
    for parent, listing in recorded.directories.items():
        now = present.directories.get(parent, listing)
        if now == listing:
            continue
        modes = {entry.name: entry.mode for entry in listings.decode(now)}
        for entry in listings.decode(listing):
            opened = entry.mode | stat.S_IRWXU
            was_opened = entry.mode != opened and modes.get(entry.name) == opened
            if entry.kind == DIRECTORY and was_opened:
                yield join(parent, entry.name)


def _stamp(top_fd: int, recorded: Manifest, directories: Set[bytes]) -> None:
    """Restore the modes and mtimes of directories, children first."""
    for path in sorted(directories, key=lambda path: path.count(b"/"), reverse=True):
        was = recorded.find(path) if path else recorded
        if was is not None:
            with contextlib.suppress(OSError), opened_below(path, top_fd) as fd:
                os.chmod(path_of(fd), was.mode)
                os.utime(path_of(fd), ns=(was.mtime_ns, was.mtime_ns))
