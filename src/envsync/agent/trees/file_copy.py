"""Copies one file, with holes, extended attributes, times and mode, completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Tuple

from envsync.agent.server.disk_failures import is_of_disk
from envsync.agent.server.filesystem import clone
from envsync.agent.server.linux_constants import SEEK_DATA, SEEK_HOLE
from envsync.agent.server.reading import closing_fd, opened_file
from envsync.agent.trees.file_hash import READ_BYTES
from envsync.agent.trees.set_id import mode_for
from envsync.tree.entry import WORLD_WRITE

UNFINISHED = 0o200
"""The mode of a copy until it is complete, by which the leftover of a crash is recognized."""

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_ATTEMPTS = 3


def copy_file(path: bytes, from_fd: int, to_fd: int) -> None:
    """Copy a file to the same path below another open directory, where nothing exists yet.

    A directory or pipe that has taken the file's place is skipped; a symlink raises OSError. If the
    copy fails, nothing of it is left.
    """
    with opened_file(path, from_fd) as old:
        if not stat.S_ISREG(os.fstat(old).st_mode):
            return
        with closing_fd(os.open(path, _NEW_FILE, UNFINISHED, dir_fd=to_fd)) as new:
            try:
                _copy(old, new)
            except BaseException:
                # A part of a file would be worse than none.
                with contextlib.suppress(OSError):
                    os.unlink(path, dir_fd=to_fd)
                raise


def copied_mode(old: os.stat_result, new: os.stat_result) -> int:
    """Return a mode for a copy that gives away nobody's rights, whoever owns the two files.

    It has no set-id bit of another user or group, and is never world-writable.
    """
    mode = mode_for(new.st_uid, old) & ~WORLD_WRITE
    return mode if old.st_gid == new.st_gid else mode & ~stat.S_ISGID


def _copy(old: int, new: int) -> None:
    """Copy contents, attributes, times and mode of an open file.

    If it keeps being written to meanwhile, the copy gets the mtime from before, so that the next
    scan finds a difference.
    """
    for _ in range(_COPY_ATTEMPTS):
        before = os.fstat(old)
        os.ftruncate(new, 0)
        if not clone(old, new):
            _copy_data(old, new, before.st_size)
        after = os.fstat(old)
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            break
    _copy_attributes(old, new)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Last, because the mode marks the file as complete. The mode is the one after its bytes were
    # read, because a write to the file clears its set-id bits.
    os.fchmod(new, copied_mode(after, os.fstat(new)))


def _copy_data(old: int, new: int, size_bytes: int) -> None:
    """Copy `size_bytes` into an empty file, keeping holes."""
    os.ftruncate(new, size_bytes)
    at = 0
    while at < size_bytes:
        start, end = _next_data(old, at, size_bytes)
        at = start
        while at < end:
            block = os.pread(old, min(READ_BYTES, end - at), at)
            if not block:
                return  # the file was truncated meanwhile
            at += os.pwrite(new, block, at)


def _next_data(fd: int, at: int, size_bytes: int) -> Tuple[int, int]:
    """Return start and end of the next data from `at`; all the rest if holes are unsupported."""
    try:
        start = os.lseek(fd, at, SEEK_DATA)
        return start, min(size_bytes, os.lseek(fd, start, SEEK_HOLE))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size_bytes, size_bytes
        if is_of_disk(error):
            raise
        return at, size_bytes


def _copy_attributes(old: int, new: int) -> None:
    """Copy extended attributes (labels and ACLs among them), as far as possible."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(new, name, os.getxattr(old, name))
