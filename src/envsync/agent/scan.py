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
from typing import Dict, List, NamedTuple, Tuple

from envsync.errors import SourceRefused
from envsync.tree.entry import join, split
from envsync.tree.local import NFS_REMAINS, LocalPaths

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_INTEGERS = 6
_NO_ROWS = bytes(4)
_SIGN_BIT_MASK = (1 << 64) - 1


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


def scan(top_fd: int, local: LocalPaths) -> Scan:
    """Scan the tree below an open directory.

    What vanishes during the pass is left out; the pass after hashing finds that out. A
    directory that may not be read raises `SourceRefused`.
    """
    top = os.fstat(top_fd)
    pass_ = _Pass(top_fd, local, top.st_dev)
    pending = [b""]
    while pending:
        directory = pending.pop()
        pending += pass_.directory(directory)
    pass_.prune()
    signature = hashlib.sha256()
    for path in sorted(pass_.directories):
        rows = pass_.directories[path]
        signature.update(struct.pack("<II", len(path), len(rows)))
        signature.update(path)
        signature.update(rows)
    return Scan(
        pass_.directories,
        stat.S_IMODE(top.st_mode) & ~0o002,
        top.st_mtime_ns,
        top.st_dev,
        top.st_ino,
        tuple(sorted(pass_.local)),
        tuple(sorted(pass_.special)),
        tuple(sorted(pass_.foreign)),
        pass_.entries,
        pass_.newest_ns,
        signature.digest(),
    )


class _Pass:
    def __init__(self, top_fd: int, local: LocalPaths, device: int) -> None:
        self._top_fd = top_fd
        self._local_paths = local
        self._device = device
        self.directories: Dict[bytes, bytes] = {}
        self.local: List[bytes] = []
        self.special: List[bytes] = []
        self.foreign: List[bytes] = []
        self.entries = 0
        self.newest_ns = 0

    def directory(self, path: bytes) -> List[bytes]:
        """Read one directory; its subdirectories, to be read next."""
        try:
            rows = _read(path, self._top_fd, self._device)
        except _ForeignDevice:
            self.foreign.append(path)
            rows = []
        except (FileNotFoundError, NotADirectoryError):
            rows = []
        except PermissionError as error:
            raise SourceRefused(
                "a directory may not be read: %s" % os.fsdecode(path), hint="chmod u+rx on it"
            ) from error
        rows = self._of_environment(path, rows)
        below: List[bytes] = []
        flat: List[int] = []
        newest = self.newest_ns
        for name, mode, inode, size, mtime, ctime, links in rows:
            flat += (mode, inode, size, mtime, ctime, links)
            if ctime > newest:
                newest = ctime
            if mode & 0o170000 == 0o040000:
                below.append(join(path, name))
        self.newest_ns = newest
        self.entries += len(rows)
        self.directories[path] = _pack(flat) + b"\0".join([row[0] for row in rows])
        return below

    def prune(self) -> None:
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
            self.entries -= 1
            self.local = [p for p in self.local if not p.startswith(path + b"/")] + [path]
            above, name = split(path)
            rows = unpack(self.directories[above])
            self.directories[above] = pack([row for row in rows if row.name != name])
            parents.add(above)

    def _of_environment(self, path: bytes, rows: List[Row]) -> List[Row]:
        """The rows without what is local, special, or a remain of NFS."""
        local = self._local_paths.names(path)
        kept: List[Row] = []
        for row in rows:
            name, kind = row[0], row[1] & 0o170000
            if local is not None and local.fullmatch(name):
                self.local.append(join(path, name))
            elif name.startswith(NFS_REMAINS) and kind != 0o040000:
                continue
            elif kind in (0o100000, 0o040000, 0o120000):
                kept.append(row)
            else:
                self.special.append(join(path, name))
        return kept


class _ForeignDevice(Exception):
    pass


def _read(path: bytes, top_fd: int, device: int) -> List[Row]:
    fd = open_directory(path, top_fd)
    rows = []
    encode = os.fsencode
    try:
        if os.fstat(fd).st_dev != device:
            raise _ForeignDevice
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    s = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                rows.append(
                    (
                        encode(entry.name),
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
    return rows  # type: ignore[return-value]  # plain tuples: making Rows costs half as much again


def _pack(flat: List[int]) -> bytes:
    form = "<I%dq" % len(flat)
    try:
        return struct.pack(form, len(flat), *flat)
    except struct.error:
        # Inode numbers that use all 64 bits.
        return struct.pack("<I%dQ" % len(flat), len(flat), *[n & _SIGN_BIT_MASK for n in flat])


def unpack(packed: bytes) -> List[Row]:
    """The rows of one directory, by ascending name."""
    if not packed:
        return []
    (count,) = struct.unpack_from("<I", packed)
    if not count:
        return []
    flat = struct.unpack_from("<%dq" % count, packed, 4)
    names = packed[4 + 8 * count :].split(b"\0")
    if len(names) * _INTEGERS != count:
        raise ValueError("a damaged row of the content cache")
    return [
        Row(name, *flat[at : at + _INTEGERS]) for name, at in zip(names, range(0, count, _INTEGERS))
    ]


def pack(rows: List[Row]) -> bytes:
    """The rows of one directory as `unpack` takes them."""
    flat: List[int] = []
    for row in rows:
        flat += row[1:]
    return _pack(flat) + b"\0".join([row.name for row in rows])
