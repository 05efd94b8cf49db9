"""Reading directories for a scan, one after the other."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Pattern,
    Sequence,
    Set,
    Tuple,
)

from envsync.agent.trees.changes import Moment
from envsync.agent.trees.directory_read import NO_ENTRIES, Entries, ForeignDevice, read_directory
from envsync.agent.trees.stat_rows import (
    KIND_MASK,
    NO_ROWS,
    Row,
    bounded_ns,
    pack,
    pack_columns,
    row_count,
    subdirectories,
    unpack,
)
from envsync.tree.entry import join, split
from envsync.tree.local import NFS_REMAINS, LocalPaths

_KINDS = frozenset((S_IFREG, S_IFDIR, S_IFLNK))
_NFS_REMAINS = NFS_REMAINS.decode()
DirectoriesOf = Callable[[int], Collection[bytes]]
"""The directories of the version that is at a top directory with this inode; asked only where
one of them may hold nothing but local paths."""


class Scan(NamedTuple):
    """One pass over a tree.

    `directories` maps relative paths to packed rows (see `unpack`). `local` are paths that
    belong to this server, `special` are sockets, pipes and devices, `foreign` directories
    on another filesystem; neither is part of the environment. `newest_ns` is the latest
    ctime seen. What changes after `moment` may not be in it.
    """

    directories: Mapping[bytes, bytes]
    mode: int
    mtime_ns: int
    device: int
    inode: int
    local: Tuple[bytes, ...]
    special: Tuple[bytes, ...]
    foreign: Tuple[bytes, ...]
    entries: int
    newest_ns: int
    signature: bytes
    moment: Moment


class Versions:
    """Which version is at a top directory with some inode: none, as of trees on no record."""

    def __call__(self, _: int) -> Collection[bytes]:
        """Its directories."""
        return ()

    def revision(self, _: int) -> str:
        """What it was published as; cheaper to ask for. Empty where there is none."""
        return ""


no_version = Versions()


class ScanPass:
    """A scan while it is made."""

    def __init__(
        self, top_fd: int, local: LocalPaths, directories_of: DirectoriesOf = no_version
    ) -> None:
        self._top_fd = top_fd
        self._local_paths = local
        self._directories_of = directories_of
        self._moment = Moment.now()
        self._top = os.fstat(top_fd)
        self.directories: Dict[bytes, bytes] = {}
        self.local: List[bytes] = []
        self.special: List[bytes] = []
        self.foreign: List[bytes] = []
        self.newest_ns = 0
        self.entries = 0
        self._before: Optional[Scan] = None
        self._read_again: Set[bytes] = set()

    @property
    def inode(self) -> int:
        return self._top.st_ino

    def below(self, directories: Sequence[bytes]) -> None:
        """Read these directories and everything below them."""
        pending = list(directories)
        while pending:
            pending += self.directory(pending.pop())

    def merge(self, found: Tuple[Any, ...]) -> None:
        """Take over what a helper found."""
        directories, local, special, foreign, newest_ns = found
        self.directories.update(directories)
        self.local += local
        self.special += special
        self.foreign += foreign
        self.newest_ns = max(self.newest_ns, newest_ns)

    def finish(self) -> Scan:
        """The scan of what was read."""
        self._prune()
        signature, entries = self._signature_and_entries()
        return Scan(
            self.directories,
            stat.S_IMODE(self._top.st_mode) & ~0o002,
            bounded_ns(self._top.st_mtime_ns),
            self._top.st_dev,
            self._top.st_ino,
            tuple(sorted(self.local)),
            tuple(sorted(self.special)),
            tuple(sorted(self.foreign)),
            entries,
            self.newest_ns,
            signature,
            self._moment,
        )

    def _signature_and_entries(self) -> Tuple[bytes, int]:
        before, again = self._before, self._read_again
        if before is not None:
            rows = before.directories
            if all(self.directories.get(path) == rows.get(path) for path in again):
                return before.signature, before.entries
        signature = hashlib.sha256()
        for path in sorted(self.directories):
            packed = self.directories[path]
            signature.update(struct.pack("<II", len(path), len(packed)))
            signature.update(path)
            signature.update(packed)
        return signature.digest(), sum(map(row_count, self.directories.values()))

    def resume(self, before: Scan, moment: Moment, again: Collection[bytes]) -> None:
        """Begin with what an earlier scan found but for these directories, which are read `again`.

        What changes after `moment` may not be in it.
        """
        self._before = before
        self._moment = moment
        self.directories = dict(before.directories.items())
        self.newest_ns = before.newest_ns
        for found, kept in (
            (before.local, self.local),
            (before.special, self.special),
            (before.foreign, self.foreign),
        ):
            kept += [path for path in found if split(path)[0] not in again]

    def again(self, path: bytes) -> None:
        """Read one directory anew, with what is new below it; what left it goes.

        Another directory may have come in the place of one, with all that it holds.
        """
        if path in self._read_again or path not in self.directories:
            return
        before = self.directories[path]
        pending = self.directory(path)
        if self.directories[path] != before:
            self._forget_what_left(path, before)
        self._read_again.add(path)
        pending = [new for new in pending if new not in self.directories]
        while pending:
            self._read_again.add(pending[-1])
            pending += self.directory(pending.pop())

    def _forget_what_left(self, path: bytes, before: bytes) -> None:
        below, standing = (
            _subdirectories(path, before),
            _subdirectories(path, self.directories[path]),
        )
        for gone in below.keys() - standing.keys():
            self._forget(gone)
        for replaced in [name for name in standing if standing[name] != below.get(name)]:
            self._forget(replaced)

    def _forget(self, path: bytes) -> None:
        """Drop a directory and all below it, however deep that is."""
        gone = [path]
        for directory in gone:
            gone += _subdirectories(directory, self.directories.pop(directory, NO_ROWS))
        without = set(gone)
        for found in (self.local, self.special, self.foreign):
            found[:] = [kept for kept in found if split(kept)[0] not in without]

    def directory(self, path: bytes) -> List[bytes]:
        """Read one directory; its subdirectories, to be read next."""
        try:
            found = read_directory(path, self._top_fd, self._top.st_dev)
        except ForeignDevice:
            self.foreign.append(path)
            found = NO_ENTRIES
        if not found.names:
            self.directories[path] = NO_ROWS
            return []
        names = found.names
        self.entries += len(names)
        joined = "\0".join(names)
        found_modes = found.columns[0]
        kinds = {mode & KIND_MASK for mode in set(found_modes)}
        local = self._local_paths.names(path)
        is_odd = kinds - _KINDS or not joined.isascii() or _NFS_REMAINS in joined
        encoded = b"" if is_odd else joined.encode("ascii")
        if is_odd or (local is not None and any(map(local.fullmatch, encoded.split(b"\0")))):
            return self._odd_directory(path, found, local)
        self._add(path, found.columns, encoded)
        if S_IFDIR not in kinds:
            return []
        start = path + b"/" if path else b""
        return [
            start + name.encode("ascii")
            for name, mode in zip(names, found_modes)
            if mode & KIND_MASK == S_IFDIR
        ]

    def _odd_directory(
        self, path: bytes, found: Entries, local: Optional[Pattern[bytes]]
    ) -> List[bytes]:
        """A directory with names that are not ASCII, or with entries that are left out."""
        encoded = [Row(*row) for row in zip(map(os.fsencode, found.names), *found.columns)]
        kept = self._of_environment(path, sorted(encoded), local)
        if not kept:
            self.directories[path] = NO_ROWS
            return []
        names, *columns = zip(*kept)
        self._add(path, columns, b"\0".join(names))
        return [join(path, row.name) for row in kept if row.mode & KIND_MASK == S_IFDIR]

    def _add(self, path: bytes, columns: Sequence[Tuple[int, ...]], names: bytes) -> None:
        self.directories[path] = pack_columns(columns) + names
        self.newest_ns = max(self.newest_ns, *columns[4])

    def _prune(self) -> None:
        """Take a directory that holds nothing but local paths for local itself.

        A cache that a tool creates, with the directories above it, is no drift. Nor is one in
        a directory that the version has: that stays what it is.
        """
        of_version: Optional[Collection[bytes]] = None
        parents = {split(path)[0] for path in self.local}
        while parents:
            path = max(parents, key=len)
            parents.remove(path)
            if not path or self.directories[path][:4] != NO_ROWS:
                continue
            if of_version is None:
                of_version = self._directories_of(self.inode)
            if path in of_version:
                continue
            del self.directories[path]
            self.local = [p for p in self.local if not p.startswith(path + b"/")] + [path]
            above, name = split(path)
            rows = unpack(self.directories[above])
            self.directories[above] = pack([row for row in rows if row.name != name])
            parents.add(above)

    def _of_environment(
        self, path: bytes, rows: List[Row], local: Optional[Pattern[bytes]]
    ) -> List[Row]:
        """The rows without what is local, special, or a remain of NFS."""
        kept: List[Row] = []
        for row in rows:
            kind = row.mode & KIND_MASK
            if local is not None and local.fullmatch(row.name):
                self.local.append(join(path, row.name))
            elif row.name.startswith(NFS_REMAINS) and kind != S_IFDIR:
                continue
            elif kind in _KINDS:
                kept.append(row)
            else:
                self.special.append(join(path, row.name))
        return kept


def _subdirectories(path: bytes, packed: bytes) -> Dict[bytes, int]:
    """The inodes of the directories in one that has these rows."""
    return {join(path, row.name): row.inode for row in subdirectories(packed)}
