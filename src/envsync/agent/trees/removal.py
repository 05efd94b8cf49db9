"""Removes whole trees, whatever their modes, never following a symlink or entering a mount."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Iterable, List, NamedTuple, Optional, Sequence

from envsync.agent.server.filesystem import mounted_within
from envsync.agent.server.reading import closing_fd
from envsync.agent.trees.directory_read import (
    open_below,
    open_directory,
    open_unread,
    path_of,
    walk,
)
from envsync.tree.entry import split


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
        top = os.readlink(path_of(directory_fd))
        mounts = mounted_within(top)
    if mounts:
        tops = tuple(os.path.join(top, path) + b"/" for path in paths)
        _refuse(mount for mount in mounts if (mount + b"/").startswith(tops))
    for path in paths:
        remove_free_of_mounts(path, directory_fd)


def _refuse(mounts: Iterable[bytes]) -> None:
    for mount in mounts:
        raise OSError(errno.EBUSY, "something is mounted there", os.fsdecode(mount))


def remove_free_of_mounts(path: bytes, directory_fd: Optional[int] = None) -> None:
    """Remove a tree that the caller knows to have no mounts, as `remove_tree` does."""
    if directory_fd is None:
        _remove(path, None)
        return
    directory, name = split(path)
    try:
        parent_fd = open_below(directory, directory_fd)
    except FileNotFoundError:
        return
    with closing_fd(parent_fd):
        _remove(name, parent_fd)


def _remove(path: bytes, directory_fd: Optional[int]) -> None:
    try:
        status = os.stat(path, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        _empty(_open(path, directory_fd))
        os.rmdir(path, dir_fd=directory_fd)
    else:
        os.unlink(path, dir_fd=directory_fd)


class _Level(NamedTuple):
    """A directory that is being emptied, and the subdirectories that it still has."""

    status: os.stat_result
    names: List[bytes]


def _empty(fd: int) -> None:
    """Remove all that is in an open directory, and close it.

    Whoever owns a directory in the tree can replace it by a symlink at any time. So each one is
    opened by its name in the one above, and left through `..`; at any depth only one is open.
    """
    levels: List[_Level] = []
    try:
        os.fchmod(fd, 0o700)  # nothing in another user's tree is removed
        while True:
            levels.append(_Level(os.fstat(fd), _remove_files(fd)))
            while not levels[-1].names:
                levels.pop()
                if not levels:
                    return
                fd = _instead(fd, open_directory(b"..", fd))
                above = levels[-1]
                if not os.path.samestat(os.fstat(fd), above.status):
                    raise OSError(errno.EBUSY, "a directory was moved while it was removed")
                os.rmdir(above.names.pop(), dir_fd=fd)
            fd = _instead(fd, _open(levels[-1].names[-1], fd))
    finally:
        os.close(fd)


def _open(path: bytes, directory_fd: Optional[int]) -> int:
    """Open a directory that is to be emptied, and give it the mode 0700, if that is permitted."""
    try:
        fd = open_directory(path, directory_fd)
    except PermissionError:
        _make_readable(path, directory_fd)
        fd = open_directory(path, directory_fd)
    with contextlib.suppress(OSError):
        os.fchmod(fd, 0o700)
    return fd


def _make_readable(path: bytes, directory_fd: Optional[int]) -> None:
    with closing_fd(open_unread(path, directory_fd)) as fd:
        # `chmod` of the name would follow a symlink, and `fchmod` needs a readable directory.
        os.chmod(path_of(fd), 0o700)


def _instead(fd: int, another: int) -> int:
    os.close(fd)
    return another


def _remove_files(fd: int) -> List[bytes]:
    """Remove all but the subdirectories of an open directory, and return these."""
    with os.scandir(fd) as entries:
        children = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
    for name, is_directory in children:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
    return [name for name, is_directory in children if is_directory]


def measure(path: bytes) -> int:
    """Return the bytes in files at and below a path, each inode once; 0 for the unreadable."""
    with contextlib.suppress(OSError):
        top = os.lstat(path)
        if not stat.S_ISDIR(top.st_mode):
            return top.st_size
    below = (status for _, status in walk(path) if not stat.S_ISDIR(status.st_mode))
    return sum({status.st_ino: status.st_size for status in below}.values())
