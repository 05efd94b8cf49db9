"""Directories that are changed temporarily: their modes and mtimes are restored at the end."""

from __future__ import annotations

import errno
import os
import stat
from typing import Dict, List, NamedTuple, Set

from envsync.agent.server.accounts import may_change
from envsync.agent.server.reading import closing_fd
from envsync.agent.trees.directory_read import open_below, opened_below, path_of
from envsync.tree.entry import WORLD_WRITE


class _Stamps(NamedTuple):
    mode: int
    atime_ns: int
    mtime_ns: int


class DirectoryStamps:
    """The changed directories of one open tree.

    `touched` are the directories that were made or changed.
    """

    def __init__(self, top_fd: int) -> None:
        self._top_fd = top_fd
        self._stamps: Dict[bytes, _Stamps] = {}
        self._opened: Set[bytes] = set()
        self.touched: Set[bytes] = set()

    def open_up(self, directory: bytes) -> None:
        """Make a directory writable; `put_back` restores its present stamps, or those noted before.

        Raises PermissionError if it belongs to another user.
        """
        self.touched.add(directory)
        if directory in self._opened:
            return
        with opened_below(directory, self._top_fd) as fd:
            status = os.fstat(fd)
            if not may_change(status):
                # Its stamps could not be restored afterwards.
                raise PermissionError(errno.EPERM, "its directory belongs to another user")
            mode = stat.S_IMODE(status.st_mode)
            stamps = _Stamps(mode, status.st_atime_ns, status.st_mtime_ns)
            self._stamps.setdefault(directory, stamps)
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(path_of(fd), mode | stat.S_IRWXU)
        self._opened.add(directory)

    def made(self, path: bytes, live: os.stat_result) -> None:
        """Note a directory that was just made; it will get the stamps of the `live` one."""
        self.touched.add(path)
        status = os.stat(path, dir_fd=self._top_fd, follow_symlinks=False)
        self._stamps[path] = _Stamps(_mode(live, status), live.st_atime_ns, live.st_mtime_ns)

    def wish(self, path: bytes, existing: os.stat_result, live: os.stat_result) -> None:
        """Note an existing directory of this user's; it will get the stamps of the `live` one."""
        if not may_change(existing):
            return
        mode = _mode(live, existing)
        if (stat.S_IMODE(existing.st_mode), existing.st_mtime_ns) != (mode, live.st_mtime_ns):
            self.touched.add(path)
            self._stamps[path] = _Stamps(mode, live.st_atime_ns, live.st_mtime_ns)

    def forget(self, path: bytes) -> None:
        """Forget a path that will be removed, and everything below it."""
        for below in [kept for kept in self._stamps if kept == path or is_below(kept, path)]:
            del self._stamps[below]
            self._opened.discard(below)

    def children_first(self) -> List[bytes]:
        """Return the directories to be stamped, in the order to do it."""
        return sorted(self._stamps, key=_depth, reverse=True)

    def put_back(self, path: bytes) -> None:
        """Give a directory its noted stamps, if it is there. Raises OSError if that fails."""
        stamps = self._stamps[path]
        try:
            fd = open_below(path, self._top_fd)
        except (FileNotFoundError, NotADirectoryError):
            return
        with closing_fd(fd):
            status = os.fstat(fd)
            if stat.S_IMODE(status.st_mode) != stamps.mode:
                os.chmod(path_of(fd), stamps.mode)
            if status.st_mtime_ns != stamps.mtime_ns:
                os.utime(path_of(fd), ns=(stamps.atime_ns, stamps.mtime_ns))


def _mode(live: os.stat_result, existing: os.stat_result) -> int:
    """Return the live directory's mode, with world-write only beside the sticky bit, as in /tmp.

    The set-group-ID bit is kept if either directory has it: the new tree hands its own down.
    """
    mode = stat.S_IMODE(live.st_mode) | (existing.st_mode & stat.S_ISGID)
    return mode if mode & stat.S_ISVTX else mode & ~WORLD_WRITE


def is_below(path: bytes, directory: bytes) -> bool:
    return path.startswith(directory + b"/")


def _depth(directory: bytes) -> int:
    return directory.count(b"/") + 1 if directory else 0
