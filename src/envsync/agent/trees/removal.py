"""Removes whole trees, whatever their modes, never following a symlink or entering a mount."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Dict, Iterable, List, Optional, Sequence

from envsync.agent.server.filesystem import mounted_within
from envsync.agent.trees.directory_read import open_directory
from envsync.tree.entry import join


def remove_tree(path: bytes, directory_fd: Optional[int] = None) -> None:
    """Remove a directory and everything below it, or a file; absence is fine.

    `path` may be relative to an open directory. Directories first get the mode 0700, where that is
    permitted. Raises OSError if an entry cannot be removed; another call continues. If something
    is mounted there or below, it raises OSError (EBUSY) and removes nothing.
    """
    if directory_fd is None:
        _refuse(mounted_within(path))
        remove_free_of_mounts(path)
    else:
        remove_trees([path], directory_fd)


def remove_trees(paths: Sequence[bytes], directory_fd: int) -> None:
    """Remove several trees below an open directory as `remove_tree` does, reading mounts once."""
    mounts: Sequence[bytes] = ()
    with contextlib.suppress(OSError):  # without /proc, mounts are unknown
        top = os.readlink(b"/proc/self/fd/%d" % directory_fd)
        mounts = mounted_within(top)
    for path in paths if mounts else ():
        above = os.path.join(top, path) + b"/"
        _refuse(mount for mount in mounts if (mount + b"/").startswith(above))
    for path in paths:
        remove_free_of_mounts(path, directory_fd)


def _refuse(mounts: Iterable[bytes]) -> None:
    for mount in mounts:
        raise OSError(errno.EBUSY, "something is mounted there", os.fsdecode(mount))


def remove_free_of_mounts(path: bytes, directory_fd: Optional[int] = None) -> None:
    """Remove a tree that the caller knows to have no mounts, as `remove_tree` does."""
    try:
        status = os.stat(path, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path, dir_fd=directory_fd)
        return
    os.chmod(path, 0o700, dir_fd=directory_fd)
    top_fd = open_directory(path, directory_fd)
    try:
        directories = [b""]
        for directory in directories:
            directories += _empty(directory, top_fd)
        for directory in reversed(directories[1:]):
            os.rmdir(directory, dir_fd=top_fd)
    finally:
        os.close(top_fd)
    os.rmdir(path, dir_fd=directory_fd)


def _empty(directory: bytes, top_fd: int) -> List[bytes]:
    """Remove the files of one directory, and return its subdirectories."""
    if directory:
        with contextlib.suppress(OSError):
            os.chmod(directory, 0o700, dir_fd=top_fd)
    fd = open_directory(directory, top_fd)
    try:
        with os.scandir(fd) as entries:
            found = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
        for name, is_directory in found:
            if not is_directory:
                os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)
    return [join(directory, name) for name, is_directory in found if is_directory]


def measure(path: bytes) -> int:
    """Return the bytes in files at and below a path, each inode once; 0 for the unreadable."""
    sizes: Dict[int, int] = {}
    pending: List[bytes] = [path]
    for directory in pending:
        with contextlib.suppress(OSError):
            status = os.lstat(directory)
            if not stat.S_ISDIR(status.st_mode):
                return status.st_size
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        sizes[status.st_ino] = status.st_size
    return sum(sizes.values())
