"""What is known of an environment before its files are hashed: their places and sizes.

With it a target that has nothing yet can take the files while the source is still hashing
them. It vouches for nothing: what it brought is compared with the manifest like everything
else that stands in a staging tree.

Layout, little-endian, for each directory in ascending order: u16 length of its path, u32
number of files, u32 length of their names joined by NUL; the path; then column by column
mode, size and mtime of each file as 64 bits; the names.
"""

from __future__ import annotations

import struct
from typing import Iterable, List, NamedTuple, Sequence, Set, Tuple

from envsync.tree.entry import (
    FILE,
    PATH_MAX_BYTES,
    Entry,
    InvalidEntry,
    check_name,
    join,
    split,
)
from envsync.tree.manifest import ENTRIES_MAX

_HEAD = struct.Struct("<HII")
_COLUMNS = 3
_SIZE_MAX_BYTES = 1 << 50
_MODES = 0o7775

Files = Sequence[Tuple[bytes, int, int, int]]
"""Name, mode, size in bytes and mtime in nanoseconds of a directory's files."""


class Outline(NamedTuple):
    """Directories, parents first, and files with their paths; the files' content is b"" yet."""

    directories: Tuple[bytes, ...]
    files: Tuple[Tuple[bytes, Entry], ...]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for _, entry in self.files)


def encode(directories: Iterable[Tuple[bytes, Files]]) -> bytes:
    """The bytes of directories that come in ascending order of their paths."""
    parts: List[bytes] = []
    for path, files in directories:
        names = b"\0".join([file[0] for file in files])
        columns = [file[column] for column in range(1, _COLUMNS + 1) for file in files]
        parts.append(_HEAD.pack(len(path), len(files), len(names)))
        parts.append(path)
        parts.append(struct.pack("<%dq" % len(columns), *columns))
        parts.append(names)
    return b"".join(parts)


def decode(data: bytes) -> Outline:
    """The outline of bytes from elsewhere, every rule checked; `InvalidEntry` otherwise.

    After this no path leads out of the tree, every directory's parent comes before it, and
    nothing comes twice.
    """
    directories: List[bytes] = []
    files: List[Tuple[bytes, Entry]] = []
    position = 0
    try:
        while position < len(data):
            path_size, count, names_size = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            if len(files) + len(directories) + count > ENTRIES_MAX:
                raise InvalidEntry("more than %d entries" % ENTRIES_MAX)
            path = data[position : position + path_size]
            position += path_size
            columns = struct.unpack_from("<%dq" % (count * _COLUMNS), data, position)
            position += 8 * len(columns)
            names = data[position : position + names_size].split(b"\0") if count else []
            position += names_size
            if len(names) != count or position > len(data):
                raise InvalidEntry("an outline that is cut short")
            directories.append(path)
            files += _files(path, names, columns)
    except struct.error as error:
        raise InvalidEntry("an outline that is cut short") from error
    _check_directories(directories, {path for path, _ in files})
    return Outline(tuple(directories), tuple(files))


def _files(
    directory: bytes, names: Sequence[bytes], columns: Sequence[int]
) -> List[Tuple[bytes, Entry]]:
    count = len(names)
    found: List[Tuple[bytes, Entry]] = []
    previous = b""
    for number, name in enumerate(names):
        mode, size_bytes, mtime_ns = columns[number::count]
        check_name(name)
        if name <= previous:
            raise InvalidEntry("an outline that is not in order: %r" % (name,))
        if mode & ~_MODES or not 0 <= size_bytes <= _SIZE_MAX_BYTES:
            raise InvalidEntry("an impossible file: %r" % (name,))
        if len(directory) + 1 + len(name) > PATH_MAX_BYTES:
            raise InvalidEntry("a path longer than %d bytes" % PATH_MAX_BYTES)
        previous = name
        found.append((join(directory, name), Entry(name, FILE, mode, size_bytes, mtime_ns, b"")))
    return found


def _check_directories(directories: Sequence[bytes], files: Set[bytes]) -> None:
    seen: Set[bytes] = set()
    for path in directories:
        if path:
            parent, name = split(path)
            check_name(name)
            if parent not in seen or path in files:
                raise InvalidEntry("a directory without its parent: %r" % (path[:80],))
        if path in seen:
            raise InvalidEntry("a directory that comes twice: %r" % (path[:80],))
        seen.add(path)
