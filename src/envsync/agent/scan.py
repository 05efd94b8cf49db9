"""One pass over a directory tree: the status of every entry, nothing opened but directories.

The result is compact and comparable: each directory becomes the packed status of its
entries, and all of them one signature. Two scans with one signature saw no difference in
name, kind, mode, inode, size, mtime, ctime or link count of anything.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

from envsync.agent.scan_helpers import ScanHelpers, Share
from envsync.errors import EnvsyncError, SourceRefused
from envsync.tree.entry import join, split
from envsync.tree.local import NFS_REMAINS, LocalPaths

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_INTEGERS = 6
_NO_ROWS = bytes(4)
_KIND_MASK = 0o170000
_DIRECTORY_KIND = 0o040000
_KINDS = frozenset((0o100000, _DIRECTORY_KIND, 0o120000))
_NFS_REMAINS = NFS_REMAINS.decode()
_StrRow = Tuple[str, int, int, int, int, int, int]
_SIGN_BIT_MASK = (1 << 64) - 1


SHARED_DIRECTORIES_MIN = 48
"""With fewer directories in sight, dividing them takes longer than reading them."""

NO_HELPERS = ScanHelpers()


class Row(NamedTuple):
    """What lstat said of one entry."""

    name: bytes
    mode: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    links: int


class Scan(NamedTuple):
    """One pass over a tree.

    `directories` maps relative paths to packed rows (see `unpack`). `local` are paths that
    belong to this server, `special` are sockets, pipes and devices, `foreign` directories
    on another filesystem; neither is part of the environment. `newest_ns` is the latest
    ctime seen.
    """

    directories: Dict[bytes, bytes]
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


def open_directory(path: bytes, top_fd: "int | None" = None) -> int:
    """A descriptor of a directory that is not a symbolic link; relative to `top_fd` if given."""
    return os.open(path or b".", _DIRECTORY_FLAGS, dir_fd=top_fd)


def scan(
    top_fd: int, local: LocalPaths, path: bytes = b"", helpers: ScanHelpers = NO_HELPERS
) -> Scan:
    """Scan the tree below an open directory.

    What vanishes during the pass is left out; the pass after hashing finds that out. A
    directory that may not be read raises `SourceRefused`. With `helpers`, the tree (which
    they open by its `path`) is divided among them where it is large.
    """
    pass_ = _Pass(top_fd, local)
    pending = [b""]
    while pending:
        if len(helpers) and len(pending) >= SHARED_DIRECTORIES_MIN:
            pending = _divide(pass_, pending, path, local, helpers)
        else:
            # First in, first out while few are known: breadth makes equal shares.
            pending += pass_.directory(pending.pop(0 if len(helpers) else -1))
    return pass_.finish()


def _divide(
    pass_: "_Pass", pending: List[bytes], path: bytes, local: LocalPaths, helpers: ScanHelpers
) -> List[bytes]:
    """Scan everything below the pending directories, each of us a share; () in the end."""
    count = len(helpers) + 1
    shares = [pending[number::count] for number in range(count)]
    begun = [
        helpers.begin(number, (path, pass_.inode, local.patterns, shares[number]))
        for number in range(len(helpers))
    ]
    pass_.below(shares[-1])
    for number, share in enumerate(shares[:-1]):
        found = helpers.finish(number) if begun[number] else None
        if found is None:
            pass_.below(share)
        else:
            pass_.merge(found)
    return []


def scan_share(share: Share) -> "Optional[Tuple[object, ...]]":
    """A helper's part of a scan, for `_Pass.merge`; None where it has to be done elsewhere."""
    path, inode, patterns, directories = share
    try:
        top_fd = open_directory(path)
        try:
            pass_ = _Pass(top_fd, LocalPaths(patterns))
            if pass_.inode != inode:
                return None
            pass_.below(directories)
            return pass_.directories, pass_.local, pass_.special, pass_.foreign, pass_.newest_ns
        finally:
            os.close(top_fd)
    except (OSError, EnvsyncError):
        return None


def rescan(top_fd: int, local: LocalPaths, before: Scan, touched: Collection[bytes]) -> Scan:
    """Scan again a tree that nobody else writes to: only the directories that were touched.

    Touched is every directory in which an entry was made, removed or stamped.
    """
    pass_ = _Pass(top_fd, local)
    pass_.resume(before)
    # A directory's own status stands in its parent's rows.
    again = set(touched) | {split(path)[0] for path in touched}
    for path in sorted(again, key=len):
        if path in pass_.directories or path in touched:
            pass_.again(path)
    return pass_.finish()


class _Pass:
    def __init__(self, top_fd: int, local: LocalPaths) -> None:
        self._top_fd = top_fd
        self._local_paths = local
        self._top = os.fstat(top_fd)
        self.directories: Dict[bytes, bytes] = {}
        self.local: List[bytes] = []
        self.special: List[bytes] = []
        self.foreign: List[bytes] = []
        self.newest_ns = 0

    @property
    def inode(self) -> int:
        return self._top.st_ino

    def below(self, directories: Sequence[bytes]) -> None:
        """Read these directories and everything below them."""
        pending = list(directories)
        while pending:
            pending += self.directory(pending.pop())

    def merge(self, found: "Tuple[Any, ...]") -> None:
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
        signature = hashlib.sha256()
        for path in sorted(self.directories):
            rows = self.directories[path]
            signature.update(struct.pack("<II", len(path), len(rows)))
            signature.update(path)
            signature.update(rows)
        return Scan(
            self.directories,
            stat.S_IMODE(self._top.st_mode) & ~0o002,
            self._top.st_mtime_ns,
            self._top.st_dev,
            self._top.st_ino,
            tuple(sorted(self.local)),
            tuple(sorted(self.special)),
            tuple(sorted(self.foreign)),
            sum(map(row_count, self.directories.values())),
            self.newest_ns,
            signature.digest(),
        )

    def resume(self, before: Scan) -> None:
        """Begin with what an earlier scan found."""
        self.directories = dict(before.directories)
        self.newest_ns = before.newest_ns

    def again(self, path: bytes) -> None:
        """Read one directory anew, with what is new below it; what left it goes."""
        below = self._subdirectories(path)
        kept = set(self.directory(path))
        for gone in below - kept:
            self._forget(gone)
        self.below([new for new in kept if new not in self.directories])

    def _subdirectories(self, path: bytes) -> Set[bytes]:
        rows = unpack(self.directories.get(path, _NO_ROWS))
        return {join(path, row.name) for row in rows if row.mode & _KIND_MASK == _DIRECTORY_KIND}

    def _forget(self, path: bytes) -> None:
        for below in self._subdirectories(path):
            self._forget(below)
        self.directories.pop(path, None)

    def directory(self, path: bytes) -> List[bytes]:
        """Read one directory; its subdirectories, to be read next."""
        try:
            rows = _read(path, self._top_fd, self._top.st_dev)
        except _ForeignDevice:
            self.foreign.append(path)
            rows = []
        except (FileNotFoundError, NotADirectoryError):
            rows = []
        except PermissionError as error:
            raise SourceRefused(
                "a directory may not be read: %s" % os.fsdecode(path), hint="chmod u+rx on it"
            ) from error
        except OSError as error:
            # Also a path too long for the kernel: of that only the end helps.
            what = "%s: ...%s" % (error.strerror, os.fsdecode(path[-200:]))
            raise SourceRefused("a directory cannot be read: %s" % what) from error
        if not rows:
            self.directories[path] = _NO_ROWS
            return []
        names, *columns = zip(*rows)
        joined = "\0".join(names)
        modes = columns[0]
        kinds = {mode & _KIND_MASK for mode in set(modes)}
        local = self._local_paths.names(path)
        if local is not None or kinds - _KINDS or not joined.isascii() or _NFS_REMAINS in joined:
            return self._odd_directory(path, rows, local)
        self._add(path, columns, joined.encode("ascii"))
        if _DIRECTORY_KIND not in kinds:
            return []
        start = path + b"/" if path else b""
        return [
            start + name.encode("ascii")
            for name, mode in zip(names, modes)
            if mode & _KIND_MASK == _DIRECTORY_KIND
        ]

    def _odd_directory(
        self, path: bytes, rows: "List[_StrRow]", local: "Optional[Pattern[bytes]]"
    ) -> List[bytes]:
        """A directory with names that are not ASCII, or with entries that are left out."""
        encoded = [Row(os.fsencode(row[0]), *row[1:]) for row in rows]
        kept = self._of_environment(path, sorted(encoded), local)
        if not kept:
            self.directories[path] = _NO_ROWS
            return []
        names, *columns = zip(*kept)
        self._add(path, columns, b"\0".join(names))
        return [join(path, row.name) for row in kept if row.mode & _KIND_MASK == _DIRECTORY_KIND]

    def _add(self, path: bytes, columns: "Sequence[Tuple[int, ...]]", names: bytes) -> None:
        self.directories[path] = _pack(columns) + names
        self.newest_ns = max(self.newest_ns, *columns[4])

    def _prune(self) -> None:
        """Take a directory that holds nothing but local paths for local itself.

        A cache that a tool creates, with the directories above it, is no drift.
        """
        parents = {split(path)[0] for path in self.local}
        while parents:
            path = max(parents, key=len)
            parents.remove(path)
            if not path or self.directories[path][:4] != _NO_ROWS:
                continue
            del self.directories[path]
            self.local = [p for p in self.local if not p.startswith(path + b"/")] + [path]
            above, name = split(path)
            rows = unpack(self.directories[above])
            self.directories[above] = pack([row for row in rows if row.name != name])
            parents.add(above)

    def _of_environment(
        self, path: bytes, rows: List[Row], local: "Optional[Pattern[bytes]]"
    ) -> List[Row]:
        """The rows without what is local, special, or a remain of NFS."""
        kept: List[Row] = []
        for row in rows:
            kind = row.mode & _KIND_MASK
            if local is not None and local.fullmatch(row.name):
                self.local.append(join(path, row.name))
            elif row.name.startswith(NFS_REMAINS) and kind != _DIRECTORY_KIND:
                continue
            elif kind in _KINDS:
                kept.append(row)
            else:
                self.special.append(join(path, row.name))
        return kept


class _ForeignDevice(Exception):
    pass


def _read(path: bytes, top_fd: int, device: int) -> "List[_StrRow]":
    """The rows of one directory with their names as text, sorted by it."""
    fd = open_directory(path, top_fd)
    rows: List[_StrRow] = []
    try:
        if os.fstat(fd).st_dev != device:
            raise _ForeignDevice
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    s = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                # Plain tuples: making a Row of each costs half as much again.
                rows.append(
                    (
                        entry.name,
                        s.st_mode,
                        s.st_ino,
                        s.st_size,
                        s.st_mtime_ns,
                        s.st_ctime_ns,
                        s.st_nlink,
                    )
                )
    finally:
        os.close(fd)
    rows.sort()
    return rows


def _pack(columns: "Sequence[Tuple[int, ...]]") -> bytes:
    count = len(columns[0])
    integers = [number for column in columns for number in column]
    try:
        return struct.pack("<I%dq" % len(integers), count, *integers)
    except struct.error:
        # Inode numbers that use all 64 bits.
        integers = [number & _SIGN_BIT_MASK for number in integers]
        return struct.pack("<I%dQ" % len(integers), count, *integers)


def row_count(packed: bytes) -> int:
    """How many rows there are in a directory's packed rows."""
    count: int = struct.unpack_from("<I", packed)[0]
    return count


def row_names(packed: bytes) -> bytes:
    """The names of a directory's packed rows, ascending, with NUL between them."""
    return packed[4 + 8 * _INTEGERS * row_count(packed) :]


def unpack(packed: bytes) -> List[Row]:
    """The rows of one directory, by ascending name. ValueError for damaged bytes."""
    try:
        count = row_count(packed)
        if not count:
            return []
        integers = struct.unpack_from("<%dq" % (count * _INTEGERS), packed, 4)
    except struct.error as error:
        raise ValueError("damaged rows of the content cache") from error
    names = row_names(packed).split(b"\0")
    if len(names) != count:
        raise ValueError("damaged rows of the content cache")
    columns = [integers[at : at + count] for at in range(0, len(integers), count)]
    return [Row(*fields) for fields in zip(names, *columns)]


def pack(rows: List[Row]) -> bytes:
    """The rows of one directory as `unpack` takes them."""
    if not rows:
        return _NO_ROWS
    names, *columns = zip(*rows)
    return _pack(columns) + b"\0".join(names)
