"""Copies one file: its bytes, holes, attributes and times, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Iterator, Optional, Tuple

from envsync.agent.server.filesystem import clone
from envsync.agent.server.reading import READ_FLAGS
from envsync.agent.trees.file_hash import BLOCK_BYTES
from envsync.agent.trees.set_id import mode_for
from envsync.agent.trees.storage import trouble
from envsync.tree.entry import WORLD_WRITE

UNFINISHED = 0o200
"""The mode of a copy until all of it is there: what was left by who died is known by it."""

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_ATTEMPTS = 3


@contextlib.contextmanager
def opened_file(path: bytes, directory_fd: Optional[int] = None) -> Iterator[int]:
    """A descriptor for reading, never of what a link leads to, until the block ends."""
    fd = os.open(path, READ_FLAGS, dir_fd=directory_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def copy_file(path: bytes, from_fd: int, to_fd: int) -> None:
    """Copy a file to the same path below another open directory, where nothing is.

    What is no file any more is left out. Nothing is left there where it fails with an OSError.
    """
    with opened_file(path, from_fd) as old:
        if not stat.S_ISREG(os.fstat(old).st_mode):
            return
        new = os.open(path, _NEW_FILE, UNFINISHED, dir_fd=to_fd)
        try:
            _copy(old, new)
        except BaseException:
            # Half of a file would be worse than none.
            with contextlib.suppress(OSError):
                os.unlink(path, dir_fd=to_fd)
            raise
        finally:
            os.close(new)


def copied_mode(old: os.stat_result, new: os.stat_result) -> int:
    """The mode of a copy, whoever the two files belong to: it gives away nobody's rights.

    No set-id bit of another user or group, and never a world-writable file.
    """
    mode = mode_for(new.st_uid, old) & ~WORLD_WRITE
    return mode if old.st_gid == new.st_gid else mode & ~stat.S_ISGID


def _copy(old: int, new: int) -> None:
    """Copy contents, attributes, mtime and mode of an open file.

    Of one that is written to meanwhile, with the mtime of before: the next look finds that it
    differs.
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
    # Last: it is what says that the file is whole. As it was after its bytes were read: who
    # writes to a file takes its set-id bits.
    os.fchmod(new, copied_mode(after, os.fstat(new)))


def _copy_data(old: int, new: int, size_bytes: int) -> None:
    """Copy so many bytes into an empty file; holes stay holes."""
    os.ftruncate(new, size_bytes)
    at = 0
    while at < size_bytes:
        start, end = _next_data(old, at, size_bytes)
        at = start
        while at < end:
            block = os.pread(old, min(BLOCK_BYTES, end - at), at)
            if not block:
                return  # it was cut short meanwhile
            at += os.pwrite(new, block, at)


def _next_data(fd: int, at: int, size_bytes: int) -> Tuple[int, int]:
    """Where data begins and ends, from some position on; where nobody knows, it is all the rest."""
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
        return start, min(size_bytes, os.lseek(fd, start, os.SEEK_HOLE))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size_bytes, size_bytes
        if trouble(error) is not None:
            raise
        return at, size_bytes


def _copy_attributes(old: int, new: int) -> None:
    """Extended attributes, as far as that can be had: labels and lists of access among them."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(new, name, os.getxattr(old, name))
