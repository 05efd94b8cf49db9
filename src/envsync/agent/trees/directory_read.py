"""Opens one directory of a tree, and reads the status of its entries."""

from __future__ import annotations

import contextlib
import os
from operator import attrgetter
from typing import ContextManager, Iterator, List, NamedTuple, Optional, Tuple

from envsync.agent.server.disk_failures import is_of_disk
from envsync.agent.server.linux_constants import O_PATH
from envsync.agent.server.reading import closing_fd
from envsync.agent.trees.stat_rows import status_columns
from envsync.agent.trees.unreadable_paths import how_to_read_directory
from envsync.errors import SourceRefused
from envsync.tree.entry import join

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNREAD_FLAGS = O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_name = attrgetter("name")


class Entries(NamedTuple):
    """A directory's entries: their names as sorted text, and their status column by column."""

    names: List[str]
    columns: Tuple[Tuple[int, ...], ...]


NO_ENTRIES = Entries([], ())


class ForeignDevice(Exception):
    """Raised for a directory on another filesystem than the tree."""


def open_directory(path: bytes, top_fd: Optional[int] = None) -> int:
    """Open a directory, but not a symlink to one; `path` is relative to `top_fd` if given."""
    return os.open(path or b".", _DIRECTORY_FLAGS, dir_fd=top_fd)


def open_unread(path: bytes, top_fd: Optional[int] = None) -> int:
    """Open a directory, though it may not be readable, to use what is in it by name."""
    return os.open(path or b".", _UNREAD_FLAGS, dir_fd=top_fd)


def open_below(path: bytes, top_fd: int) -> int:
    """Open a directory of a tree like `open_unread`, following no symlink on the way there."""
    fd = open_unread(b"", top_fd)
    for name in filter(None, path.split(b"/")):
        with closing_fd(fd):
            below = open_unread(name, fd)
        fd = below
    return fd


def opened_below(path: bytes, top_fd: int) -> ContextManager[int]:
    """Do `open_below` until the block ends."""
    return closing_fd(open_below(path, top_fd))


def path_of(fd: int) -> bytes:
    """Return a path of an open directory, for calls that refuse one that was opened unread."""
    return b"/proc/self/fd/%d" % fd


def opened_directory(path: bytes, top_fd: Optional[int] = None) -> ContextManager[int]:
    """Do `open_directory` until the block ends."""
    return closing_fd(open_directory(path, top_fd))


class ParentDirectory:
    """Opens directories of a tree; the last one stays open, as paths come in order."""

    def __init__(self, top_fd: int) -> None:
        self._top_fd = top_fd
        self._path: Optional[bytes] = None
        self._fd = -1

    def opened(self, path: bytes) -> int:
        """Return the directory's descriptor, which the next call may close."""
        if path != self._path:
            fd = open_directory(path, self._top_fd)
            self.close()
            self._path, self._fd = path, fd
        return self._fd

    def close(self) -> None:
        if self._path is not None:
            os.close(self._fd)
            self._path = None


def read_directory(path: bytes, top_fd: int, device: int) -> Entries:
    """Return the entries of one directory; none if it has vanished or is no longer a directory.

    Raises `ForeignDevice` if it is not on this `device`, `SourceRefused` if it cannot be read, and
    OSError if the disk is the reason for that.
    """
    try:
        return _read(path, top_fd, device)
    except (FileNotFoundError, NotADirectoryError):
        return NO_ENTRIES
    except PermissionError as error:
        raise SourceRefused(
            f"a directory is not readable: {os.fsdecode(path)}",
            hint=how_to_read_directory(top_fd, path),
        ) from error
    except OSError as error:
        if is_of_disk(error):
            raise
        # The path may be too long for the kernel; then only its end is helpful.
        reason = f"{error.strerror}: ...{os.fsdecode(path[-200:])}"
        raise SourceRefused(f"a directory cannot be read: {reason}") from error


def _read(path: bytes, top_fd: int, device: int) -> Entries:
    fd = open_directory(path, top_fd)
    try:
        if os.fstat(fd).st_dev != device:
            raise ForeignDevice
        try:
            with os.scandir(fd) as iterator:
                entries = sorted(iterator, key=_name)
            # Plain tuples, transposed: making a Row of each would take half as long again.
            rows = [status_columns(entry.stat(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:
            return _what_remains(fd)
    finally:
        os.close(fd)
    return Entries(list(map(_name, entries)), tuple(zip(*rows)))


def _what_remains(fd: int) -> Entries:
    """Return the remaining entries of a directory in which some vanish while it is read."""
    names: List[str] = []
    rows: List[Tuple[int, ...]] = []
    for name in sorted(os.listdir(fd)):
        with contextlib.suppress(FileNotFoundError):
            rows.append(status_columns(os.stat(name, dir_fd=fd, follow_symlinks=False)))
            names.append(name)
    return Entries(names, tuple(zip(*rows)))


def walk(top: bytes) -> Iterator[Tuple[bytes, os.stat_result]]:
    """Yield everything readable below a directory, without following links."""
    pending = [b""]
    for directory in pending:
        with contextlib.suppress(OSError), os.scandir(os.path.join(top, directory)) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it has vanished meanwhile
                path = join(directory, os.fsencode(entry.name))
                yield path, status
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
