"""The status of a directory's entries, packed into bytes that are small and comparable.

Layout, little-endian: the number of rows in 32 bits, then column by column the mode, inode, size,
mtime, ctime and link count of each row in 64 bits, then the names separated by NUL.
"""

from __future__ import annotations

import functools
import itertools
import stat
import struct
from operator import attrgetter
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple

_INTEGERS = 6
INODE_MASK = (1 << 64) - 1
"""Makes a row's inode unsigned: rows hold signed numbers, but inodes may use all 64 bits."""
KIND_MASK = stat.S_IFMT(0o177777)
"""For comparing a row's mode with `stat.S_IFREG` etc. in loops where a function call is slow."""
_TIME_MAX_NS = (1 << 63) - 1

status_columns = attrgetter(
    "st_mode", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_nlink"
)
"""Gets the fields of a row from an `os.stat_result`, in the row's order."""

NO_ROWS = bytes(4)
"""The packed rows of an empty directory."""


class Row(NamedTuple):
    """What lstat said of one entry."""

    name: bytes
    mode: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    links: int


new_row: Callable[[Tuple[Any, ...]], Row] = functools.partial(tuple.__new__, Row)
"""Makes a row without its constructor, which takes a third of the whole time."""


def pack_columns(columns: Sequence[Tuple[int, ...]]) -> bytes:
    """Return the start of packed rows, which the names, joined by NUL, have to follow."""
    count = len(columns[0])
    integers = tuple(itertools.chain.from_iterable(columns))
    try:
        return struct.pack(f"<I{len(integers)}q", count, *integers)
    except struct.error:
        # Some inode numbers use all 64 bits, or some times do not fit into 64 bits.
        modes_, inodes, sizes, mtimes, ctimes, links = columns
        times = [tuple(map(bounded_ns, column)) for column in (mtimes, ctimes)]
        integers = tuple(itertools.chain(modes_, inodes, sizes, *times, links))
        integers = tuple(number & INODE_MASK for number in integers)
        return struct.pack(f"<I{len(integers)}Q", count, *integers)


def bounded_ns(time_ns: int) -> int:
    """Limit a time to what 64 bits hold, 1677 to 2262; filesystems can have others."""
    return max(-_TIME_MAX_NS, min(_TIME_MAX_NS, time_ns))


def row_count(packed: bytes) -> int:
    """Return the number of rows in a directory's packed rows."""
    count: int = struct.unpack_from("<I", packed)[0]
    return count


def row_names(packed: bytes) -> bytes:
    """Return the names in a directory's packed rows, ascending and separated by NUL."""
    return packed[4 + 8 * _INTEGERS * row_count(packed) :]


def modes(packed: bytes) -> Set[int]:
    """Return the modes that occur in a directory, without unpacking the rest."""
    return set(struct.unpack_from(f"<{row_count(packed)}q", packed, 4))


def may_hold_programs(packed: bytes) -> bool:
    """Return whether a directory may hold binaries; a symlink counts, as it may lead to one."""
    if b".so" in row_names(packed):
        return True
    return any(
        stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and mode & stat.S_IXUSR) for mode in modes(packed)
    )


def linked_files(packed: bytes) -> List[Tuple[bytes, int]]:
    """Return name and inode of each file in a directory that has other names too, anywhere."""
    linked = _linked(packed)
    if not linked:
        return []
    names, modes_, inodes, *_ = _columns(packed)
    return [(names[at], inodes[at]) for at, _ in linked if stat.S_ISREG(modes_[at])]


def has_names_elsewhere(directories: Mapping[bytes, bytes]) -> bool:
    """Return whether a file or symlink of a tree has names that are not in its packed rows."""
    missing: Dict[int, int] = {}
    for packed in directories.values():
        linked = _linked(packed)
        inodes = _columns(packed)[2] if linked else ()
        for at, links in linked:
            missing[inodes[at]] = missing.get(inodes[at], links) - 1
    return any(missing.values())


def _linked(packed: bytes) -> List[Tuple[int, int]]:
    """Return row number and link count of each entry with several names, except directories."""
    count = row_count(packed)
    column = struct.Struct(f"<{count}q")
    links = column.unpack_from(packed, 4 + 8 * count * (_INTEGERS - 1))
    if max(links, default=0) <= 1:
        return []
    modes_ = column.unpack_from(packed, 4)
    return [
        (at, links[at])
        for at in range(count)
        if links[at] > 1 and modes_[at] & KIND_MASK != stat.S_IFDIR
    ]


def unpack(packed: bytes) -> List[Row]:
    """Return the rows of one directory, by ascending name; ValueError for damaged bytes."""
    return list(map(new_row, zip(*_columns(packed))))


def subdirectories(packed: bytes) -> List[Row]:
    """Return the rows of a directory's subdirectories; as these are few, no others are made."""
    if not any(map(stat.S_ISDIR, modes(packed))):
        return []
    columns = _columns(packed)
    places = [at for at, mode in enumerate(columns[1]) if stat.S_ISDIR(mode)]
    return [Row(*(column[at] for column in columns)) for at in places]


def _columns(packed: bytes) -> List[Sequence[Any]]:
    """Return the columns of all rows: the names, then each of the integers."""
    try:
        count = row_count(packed)
        integers = struct.unpack_from(f"<{count * _INTEGERS}q", packed, 4)
    except struct.error as error:
        raise ValueError("damaged rows of the content cache") from error
    names = row_names(packed).split(b"\0") if count else []
    if len(names) != count:
        raise ValueError("damaged rows of the content cache")
    return [names, *(integers[at * count : (at + 1) * count] for at in range(_INTEGERS))]


def pack(rows: List[Row]) -> bytes:
    """Pack the rows of one directory, for `unpack`."""
    if not rows:
        return NO_ROWS
    names, *columns = zip(*rows)
    return pack_columns(columns) + b"\0".join(names)
