"""Carries a server's local paths from the live version into another.

They belong to the server, not to a version: whatever tree becomes live has them as they are.
Decision 33.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Collection, Iterator, List, NamedTuple, Optional, Set

from envsync.agent.places.directory_stamps import DirectoryStamps, is_below
from envsync.agent.server.disk_failures import is_of_disk
from envsync.agent.server.filesystem import mounts_below
from envsync.agent.server.reading import opened_file
from envsync.agent.trees.directory_read import opened_below, opened_directory
from envsync.agent.trees.file_copy import UNFINISHED, copied_mode, copy_file
from envsync.agent.trees.removal import remove_free_of_mounts
from envsync.errors import EnvsyncError, PreflightRefused
from envsync.tree.entry import join, split
from envsync.tree.local import CACHES, NFS_REMAINS, LocalPaths

_PATHS_MAX = 10
_CACHES = LocalPaths(CACHES)
_MOUNTED = "a filesystem is mounted there"
_IN_THE_WAY = "the version has something else there"


def carry(
    live: bytes, local: Collection[bytes], tree: bytes, rules: LocalPaths, *, is_ours: bool
) -> Set[bytes]:
    """Make a tree's local paths equal to those of the live tree; return the directories touched.

    What is equal by kind, mode, size and mtime is not touched, so this may be called again. A tree
    that `is_ours` is not visible to anybody yet: what the live tree no longer has is removed from
    its local directories. From any other tree nothing is removed, and what is newer there than in
    the live tree stays. What the tree has of its version is never replaced, and its directories
    keep their modes and mtimes. No link is followed, and no mount point crossed; sockets, pipes
    and devices are left out. A file is carried whole or not at all.

    Raises the OSError of a disk that is full or fails, and `PreflightRefused` with the paths if
    anything else cannot be carried, unless it is a cache that is made anew. A tree that is not ours
    then has nothing that it did not have before.
    """
    if not local:
        return set()
    with opened_directory(live) as live_fd, opened_directory(tree) as tree_fd:
        mounts = _relative_mounts(live) | _relative_mounts(tree)
        carrying = _Carrying(live_fd, tree_fd, rules, mounts, is_ours=is_ours)
        try:
            carrying.run(local)
            carrying.require_all()
        except (EnvsyncError, OSError):
            if not is_ours:
                carrying.take_back()
            raise
        finally:
            carrying.stamp_directories()
    carrying.require_all()
    return carrying.touched


def _relative_mounts(tree: bytes) -> Set[bytes]:
    top = os.path.realpath(tree)
    return {os.path.relpath(path, top) for path in mounts_below(tree)}


class _Pending(NamedTuple):
    """A path, and whether it is local itself or only a directory that contains local ones."""

    path: bytes
    is_local: bool


class _Carrying:
    """Carries local paths from one open tree to another."""

    def __init__(
        self,
        live_fd: int,
        tree_fd: int,
        rules: LocalPaths,
        mounts: Collection[bytes],
        *,
        is_ours: bool,
    ) -> None:
        self._live_fd = live_fd
        self._tree_fd = tree_fd
        self._device = os.fstat(live_fd).st_dev
        self._rules = rules
        self._mounts = mounts
        self._is_ours = is_ours
        self._stamps = DirectoryStamps(tree_fd)
        self._ways: Set[bytes] = set()
        self._made: List[bytes] = []
        self._left: List[str] = []

    @property
    def touched(self) -> Set[bytes]:
        return self._stamps.touched

    def run(self, local: Collection[bytes]) -> None:
        for path in sorted(local):
            pending: List[_Pending] = []
            with self._noting(path):
                # If it is gone, make no directories above it, which nobody would consider local.
                if _status(path, self._live_fd) and self._make_way(split(path)[0]):
                    pending = [_Pending(path, self._rules.matches(path))]
            while pending:
                now = pending.pop()
                with self._noting(now.path):
                    pending += self._carry(now)

    @contextlib.contextmanager
    def _noting(self, path: bytes) -> Iterator[None]:
        """Note a path that cannot be carried; a disk that is full or fails ends the whole carry."""
        try:
            yield
        except FileNotFoundError:
            pass  # it has vanished meanwhile
        except OSError as error:
            if is_of_disk(error):
                raise
            self._leave(path, error.strerror or str(error))

    def take_back(self) -> None:
        """Remove what was made; what replaced something older stays."""
        for path in reversed(self._made):
            # Others may have put something into a directory made here.
            directory, name = split(path)
            with contextlib.suppress(OSError), opened_below(directory, self._tree_fd) as fd:
                try:
                    os.unlink(name, dir_fd=fd)
                except IsADirectoryError:
                    os.rmdir(name, dir_fd=fd)

    def _leave(self, path: bytes, why: str) -> None:
        if not self._is_cache(path):
            self._left.append(f"{os.fsdecode(path)}: {why}")

    def _is_cache(self, path: bytes) -> bool:
        """Return whether the path is a cache, or a directory that contains nothing else."""
        pending = [path]
        while pending:
            below = pending.pop()
            if _CACHES.matches(below):
                continue
            try:
                pending += [join(below, name) for name in _names(below, self._live_fd)]
            except OSError:
                return False  # not a directory, or one that cannot be read
        return True

    def require_all(self) -> None:
        """Raise `PreflightRefused` if something was left behind that no tool makes anew."""
        if not self._left:
            return
        count = len(self._left)
        which = "a local path" if count == 1 else f"{count} local paths"
        raise PreflightRefused(
            f"{which} there cannot be carried into the next version",
            details=self._left[:_PATHS_MAX],
            hint="make it readable there, or move it out of the environment",
        )

    def _make_way(self, directory: bytes) -> bool:
        """Make the directories above a local path; return False if the live tree lacks one."""
        if directory in self._ways:
            return True
        parts = directory.split(b"/") if directory else []
        for count in range(1, len(parts) + 1):
            above = b"/".join(parts[:count])
            live, existing = _status(above, self._live_fd), _status(above, self._tree_fd)
            if live is None or not stat.S_ISDIR(live.st_mode):
                return False
            if above in self._mounts:
                raise OSError(errno.EXDEV, _MOUNTED)
            if existing is None:
                self._make_directory(above, live)
            elif not stat.S_ISDIR(existing.st_mode):
                raise OSError(errno.ENOTDIR, _IN_THE_WAY)
        self._ways.add(directory)
        return True

    def _carry(self, what: _Pending) -> List[_Pending]:
        """Carry one path; for a directory, return what to carry next."""
        live, existing = _status(what.path, self._live_fd), _status(what.path, self._tree_fd)
        if live is None:
            if existing is not None and what.is_local and self._is_ours:
                self._clear(what.path)
        elif self._is_mounted(what.path, live):
            raise OSError(errno.EXDEV, _MOUNTED)
        elif stat.S_ISDIR(live.st_mode):
            return self._carry_directory(what, live, existing)
        elif _is_carried(what.path, live):
            self._carry_file(what, live, existing)
        return []

    def _is_mounted(self, path: bytes, live: os.stat_result) -> bool:
        # For a file in an overlay, st_dev may be that of a layer.
        is_elsewhere = stat.S_ISDIR(live.st_mode) and live.st_dev != self._device
        return is_elsewhere or path in self._mounts

    def _carry_directory(
        self, what: _Pending, live: os.stat_result, existing: Optional[os.stat_result]
    ) -> List[_Pending]:
        path, is_local = what
        names = set(_names(path, self._live_fd))  # what cannot be read replaces nothing
        if existing is not None and stat.S_ISDIR(existing.st_mode):
            if is_local:
                self._stamps.wish(path, existing, live)
                if self._is_ours:
                    names.update(_names(path, self._tree_fd))
        elif existing is None or self._make_room(what, live, existing):
            self._make_directory(path, live)
        else:
            return []
        local = self._rules.names(path)
        return [
            _Pending(
                join(path, name),
                is_local or (local is not None and local.fullmatch(name) is not None),
            )
            for name in names
        ]

    def _carry_file(
        self, what: _Pending, live: os.stat_result, existing: Optional[os.stat_result]
    ) -> None:
        if existing is None:
            self._made.append(what.path)
        elif not self._make_room(what, live, existing):
            return
        self._stamps.open_up(split(what.path)[0])
        self._copy(what.path, live)

    def _make_room(self, what: _Pending, live: os.stat_result, existing: os.stat_result) -> bool:
        """Remove what the tree has at a path; return False if that stays.

        Raises OSError if it must not be replaced, or if the live tree's cannot be read.
        """
        if not self._is_replaced(what, live, existing):
            return False
        if stat.S_ISREG(live.st_mode):
            with opened_file(what.path, self._live_fd):
                pass  # a file that cannot be read replaces nothing
        self._clear(what.path)
        return True

    def _is_replaced(self, what: _Pending, live: os.stat_result, existing: os.stat_result) -> bool:
        """Return whether what the tree has is replaced. Raises OSError if it must not be.

        What the version brings must not, nor a directory in an earlier version, in which what is
        newer stays.
        """
        if self._is_same(what.path, live, existing):
            return False
        is_directory = stat.S_ISDIR(existing.st_mode)
        if not what.is_local or (is_directory and not self._is_ours):
            raise OSError(errno.EEXIST, _IN_THE_WAY)
        is_torn = stat.S_IMODE(existing.st_mode) == UNFINISHED
        return self._is_ours or is_torn or live.st_mtime_ns >= existing.st_mtime_ns

    def _is_same(self, path: bytes, live: os.stat_result, existing: os.stat_result) -> bool:
        is_kind = stat.S_IFMT(live.st_mode) == stat.S_IFMT(existing.st_mode)
        if not is_kind or live.st_mtime_ns != existing.st_mtime_ns:
            return False
        if stat.S_ISLNK(live.st_mode):
            fds = self._live_fd, self._tree_fd
            return len({os.readlink(path, dir_fd=fd) for fd in fds}) == 1
        is_mode = stat.S_IMODE(existing.st_mode) == copied_mode(live, existing)
        return is_mode and live.st_size == existing.st_size

    def _clear(self, path: bytes) -> None:
        self._stamps.open_up(split(path)[0])
        self._stamps.forget(path)
        if any(mount == path or is_below(mount, path) for mount in self._mounts):
            raise OSError(errno.EBUSY, _MOUNTED)
        remove_free_of_mounts(path, self._tree_fd)

    def _make_directory(self, path: bytes, live: os.stat_result) -> None:
        directory, name = split(path)
        self._stamps.open_up(directory)
        with opened_below(directory, self._tree_fd) as fd:
            os.mkdir(name, 0o700, dir_fd=fd)
        self._made.append(path)
        self._stamps.made(path, live)

    def stamp_directories(self) -> None:
        """Give directories their modes and mtimes."""
        for path in self._stamps.children_first():
            with self._noting(path):
                self._stamps.put_back(path)

    def _copy(self, path: bytes, live: os.stat_result) -> None:
        if self._is_ours:
            _copy(path, live, self._live_fd, self._tree_fd)
            return
        # In an earlier version, somebody may put a link in place of a directory on the way.
        directory, name = split(path)
        with contextlib.ExitStack() as stack:
            tops = self._live_fd, self._tree_fd
            fds = [stack.enter_context(opened_below(directory, top)) for top in tops]
            _copy(name, live, *fds)


def _copy(path: bytes, live: os.stat_result, live_fd: int, tree_fd: int) -> None:
    if not stat.S_ISLNK(live.st_mode):
        copy_file(path, live_fd, tree_fd)
        return
    os.symlink(os.readlink(path, dir_fd=live_fd), path, dir_fd=tree_fd)
    with contextlib.suppress(NotImplementedError):
        times = live.st_atime_ns, live.st_mtime_ns
        os.utime(path, ns=times, dir_fd=tree_fd, follow_symlinks=False)


def _is_carried(path: bytes, live: os.stat_result) -> bool:
    """Return False for what NFS leaves of a deleted file, and for sockets, pipes and devices."""
    is_nothing = split(path)[1].startswith(NFS_REMAINS)
    return not is_nothing and (stat.S_ISREG(live.st_mode) or stat.S_ISLNK(live.st_mode))


def _status(path: bytes, top_fd: int) -> Optional[os.stat_result]:
    """Return a path's status, without following a link; None if nothing is there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.stat(path, dir_fd=top_fd, follow_symlinks=False)
    return None


def _names(directory: bytes, top_fd: int) -> List[bytes]:
    with opened_directory(directory, top_fd) as fd:
        return list(map(os.fsencode, os.listdir(fd)))
