"""One pass of a scan: reads directories one after the other."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import (
    Any,
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
from envsync.agent.trees.open_tree import OpenTree
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
from envsync.tree.local import NFS_REMAINS

_KINDS = frozenset((S_IFREG, S_IFDIR, S_IFLNK))
_NFS_REMAINS = NFS_REMAINS.decode()


class Scan(NamedTuple):
    """The result of one pass over a tree.

    `directories` maps relative paths to packed rows (see `unpack`). Not part of the environment
    are: `local`, the paths that belong to this server; `special`, which are sockets, pipes and
    devices; and what is in `foreign`, directories on another filesystem. `newest_ns` is the latest
    ctime seen. Changes made after `moment` may be missing.
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


class ScanPass:
    """A scan in progress."""

    def __init__(self, tree: OpenTree) -> None:
        self._top_fd = tree.top_fd
        self._local_paths = tree.local
        self._directories_of = tree.directories_of
        self._moment = Moment.now()
        self._top = os.fstat(tree.top_fd)
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

    def whole(self) -> None:
        """Read the whole tree."""
        pending = [b""]
        while pending:
            pending += self.directory(pending.pop())

    def parts(self) -> Tuple[Any, ...]:
        """Return what was read, for `merge` in another process."""
        return self.directories, self.local, self.special, self.foreign, self.newest_ns

    def merge(self, parts: Tuple[Any, ...]) -> None:
        """Add what a helper read."""
        directories, local, special, foreign, newest_ns = parts
        self.directories.update(directories)
        self.local += local
        self.special += special
        self.foreign += foreign
        self.newest_ns = max(self.newest_ns, newest_ns)

    def finish(self) -> Scan:
        """Return the scan of all that was read."""
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
        """Start from an earlier scan, except for the directories that will be read `again`.

        Changes made after `moment` may be missing from the result.
        """
        self._before = before
        self._moment = moment
        self.directories = dict(before.directories.items())
        self.newest_ns = before.newest_ns
        for paths, kept in (
            (before.local, self.local),
            (before.special, self.special),
            (before.foreign, self.foreign),
        ):
            kept += [path for path in paths if split(path)[0] not in again]

    def again(self, path: bytes) -> None:
        """Read one directory anew, with new directories below it; forget those that are gone.

        A subdirectory may also have been replaced by another one, with all that it holds.
        """
        if path in self._read_again or path not in self.directories:
            return
        before = self.directories[path]
        pending = self.directory(path)
        now = self.directories[path]
        if now != before:
            was = _subdirectories(path, before)
            for other, _ in was.items() ^ _subdirectories(path, now).items():
                self._forget(other)
        self._read_again.add(path)
        pending = [new for new in pending if new not in self.directories]
        while pending:
            self._read_again.add(pending[-1])
            pending += self.directory(pending.pop())

    def _forget(self, path: bytes) -> None:
        """Drop a directory and everything below it."""
        gone = [path]
        for directory in gone:
            gone += _subdirectories(directory, self.directories.pop(directory, NO_ROWS))
        without = set(gone)
        for paths in (self.local, self.special, self.foreign):
            paths[:] = [path for path in paths if split(path)[0] not in without]

    def directory(self, path: bytes) -> List[bytes]:
        """Read one directory and return its subdirectories, to be read next."""
        try:
            names, columns = read_directory(path, self._top_fd, self._top.st_dev)
        except ForeignDevice:
            self.foreign.append(path)
            names, columns = NO_ENTRIES
        if not names:
            self.directories[path] = NO_ROWS
            return []
        self.entries += len(names)
        joined = "\0".join(names)
        modes = columns[0]
        kinds = {mode & KIND_MASK for mode in set(modes)}
        local = self._local_paths.names(path)
        is_odd = kinds - _KINDS or not joined.isascii() or _NFS_REMAINS in joined
        encoded = b"" if is_odd else joined.encode("ascii")
        if is_odd or (local is not None and any(map(local.fullmatch, encoded.split(b"\0")))):
            return self._odd_directory(path, Entries(names, columns), local)
        self._add(path, columns, encoded)
        if S_IFDIR not in kinds:
            return []
        start = path + b"/" if path else b""
        return [
            start + name.encode("ascii")
            for name, mode in zip(names, modes)
            if mode & KIND_MASK == S_IFDIR
        ]

    def _odd_directory(
        self, path: bytes, entries: Entries, local: Optional[Pattern[bytes]]
    ) -> List[bytes]:
        """Add a directory that has non-ASCII names or entries to be left out."""
        rows = [Row(*row) for row in zip(map(os.fsencode, entries.names), *entries.columns)]
        kept = self._of_environment(path, sorted(rows), local)
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
        """Treat a directory that holds nothing but local paths as local itself.

        Otherwise a cache that a tool creates, with the directories above it, would be drift. A
        directory that the version has stays part of the environment.
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
        """Return the rows without local paths, special files and what NFS leaves behind."""
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
    """Return the inodes of the subdirectories of a directory with these rows, by path."""
    return {join(path, row.name): row.inode for row in subdirectories(packed)}
