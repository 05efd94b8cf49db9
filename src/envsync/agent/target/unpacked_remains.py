"""Removes what processes that died had unpacked (see `push.packing.unpack_place`)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator, List, Optional, Tuple

from envsync.agent.server.reading import closing_fd
from envsync.agent.server.remembered_file import only_user_writes
from envsync.agent.trees.directory_read import open_directory, path_of
from envsync.agent.trees.removal import measure, remove_tree

_LOCK = b"lock"
_TREES = (b"envs", b"going")  # all that `UnpackPlace` makes beside its lock


def sweep_unpacked(directory: Optional[str], *, dry_run: bool) -> Tuple[int, int]:
    """Remove what was unpacked below the directories in `directory` whose lock is free.

    With `dry_run`, only count it. Returns the number of trees and their size in bytes. The locks
    stay: another process may be about to take one. Links, and directories in which another user can
    have put something, are left alone: the cache directory may be shared.
    """
    sizes: List[int] = []
    if directory is not None:
        with contextlib.suppress(OSError), _opened_own(os.fsencode(directory)) as fd:
            for name in map(os.fsencode, os.listdir(fd)):
                with contextlib.suppress(OSError), _opened_own(name, fd) as place_fd:
                    sizes.extend(_swept(place_fd, dry_run=dry_run))
    return len(sizes), sum(sizes)


@contextlib.contextmanager
def _opened_own(path: bytes, directory_fd: Optional[int] = None) -> Iterator[int]:
    """Open a directory that only this user can write; PermissionError for another."""
    with closing_fd(open_directory(path, directory_fd)) as fd:
        if not only_user_writes(fd):
            raise PermissionError
        yield fd


def _swept(place_fd: int, *, dry_run: bool) -> Iterator[int]:
    """Yield the size of each tree; OSError if the lock is taken or a tree cannot be removed."""
    with closing_fd(os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW, dir_fd=place_fd)) as lock_fd:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if dry_run:  # a process that unpacks need not wait for the measuring
            fcntl.flock(lock_fd, fcntl.LOCK_UN)
        for name in _TREES:
            path = os.path.join(path_of(place_fd), name)
            if os.path.lexists(path):
                tree_bytes = measure(path)
                if not dry_run:
                    remove_tree(name, place_fd)
                yield tree_bytes
