"""Reads from an ELF file which glibc it needs and where it looks for libraries.

Only what the loader would look up counts, not a string that merely looks like a version or a
path, nor a version that the file itself provides.
"""

from __future__ import annotations

import itertools
import re
import struct
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

ELF_MAGIC = b"\x7fELF"
_NEEDED_VERSIONS = 0x6FFFFFFE  # SHT_GNU_verneed
_SECTIONS_MAX = 2000
_TABLE_BYTES_MAX = 64 << 20
_LIBRARIES_MAX, _NAMES_MAX = 10_000, 100_000
_LOAD, _DYNAMIC = 1, 2  # PT_LOAD, PT_DYNAMIC
_STRINGS, _RPATH, _RUNPATH = 5, 15, 29  # DT_STRTAB, DT_RPATH, DT_RUNPATH
_DYNAMIC_BYTES_MAX = 64 << 10
_RUN_PATH_BYTES_MAX = 16 << 10
# OverflowError: a 64-bit offset can be larger than any file's.
_DAMAGE = (struct.error, ValueError, IndexError, OverflowError)
_GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)(?:\.(\d+))?\Z")

ReadAt = Callable[[int, int], bytes]
"""Takes an offset and a size, and returns the bytes there; fewer where the file ends."""
Version = Tuple[int, ...]


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int


class _Section(NamedTuple):
    kind: int
    offset: int
    size: int
    link: int
    entries: int


def needed_glibc(read: ReadAt) -> Version:
    """Return the newest glibc that a file needs, as (2, 34); empty if none or if it is damaged."""
    try:
        return max(_needed(read), default=())
    except _DAMAGE:
        return ()


def run_paths(read: ReadAt) -> Tuple[bytes, ...]:
    """Return the directories of a file's RUNPATH, else of its RPATH, as written; empty if none."""
    try:
        return _run_paths(read)
    except _DAMAGE:
        return ()


def _run_paths(read: ReadAt) -> Tuple[bytes, ...]:
    head = read(0, 64)
    if not _is_elf(head):
        return ()
    order, is_wide = _layout(head)
    segments = _segments(read, head)
    tags: Dict[int, int] = {}
    for segment in segments:
        if segment.kind == _DYNAMIC:
            table = read(segment.offset, min(segment.size, _DYNAMIC_BYTES_MAX))
            pair = struct.Struct(order + ("QQ" if is_wide else "II"))
            whole = table[: len(table) - len(table) % pair.size]
            # The tag 0 ends the table; what follows does not belong to it.
            tags.update(itertools.takewhile(lambda row: row[0], pair.iter_unpack(whole)))
    # If a file has both, the loader ignores its RPATH.
    text = tags.get(_RUNPATH, tags.get(_RPATH))
    if text is None or _STRINGS not in tags:
        return ()
    start = _offset_of(tags[_STRINGS], segments) + text
    written, end, _ = read(start, _RUN_PATH_BYTES_MAX).partition(b"\0")
    return tuple(filter(None, written.split(b":"))) if end else ()


def _segments(read: ReadAt, head: bytes) -> List[_Segment]:
    _, is_wide = _layout(head)
    if is_wide:
        rows = _table(read, head, 32, 54, "IIQQQQQQ")
        return [_Segment(kind, at, address, size) for kind, _, at, address, _, size, _, _ in rows]
    rows = _table(read, head, 28, 42, "8I")  # the flags are elsewhere
    return [_Segment(kind, at, address, size) for kind, at, address, _, size, _, _, _ in rows]


def _offset_of(address: int, segments: List[_Segment]) -> int:
    """Return the file offset of what is loaded at `address`; ValueError if nothing is."""
    for segment in segments:
        if segment.kind == _LOAD and 0 <= address - segment.address < segment.size:
            return segment.offset + address - segment.address
    raise ValueError("an address of no segment")


def _is_elf(head: bytes) -> bool:
    return head[:4] == ELF_MAGIC and head[4:5] in (b"\1", b"\2")


def _layout(head: bytes) -> Tuple[str, bool]:
    """Return the byte order in the notation of `struct`, and whether addresses have 64 bits."""
    return "<" if head[5:6] == b"\1" else ">", head[4:5] == b"\2"


def _needed(read: ReadAt) -> Iterator[Version]:
    head = read(0, 64)
    if not _is_elf(head):
        return
    order, _ = _layout(head)
    sections = _sections(read, head)
    for section in sections:
        if section.kind == _NEEDED_VERSIONS:
            strings = sections[section.link]
            table = read(strings.offset, min(strings.size, _TABLE_BYTES_MAX))
            rows = read(section.offset, min(section.size, _TABLE_BYTES_MAX))
            names = _names(rows, table, section.entries, order)
            for name in itertools.islice(names, _NAMES_MAX):
                match = _GLIBC.match(name)
                if match:
                    yield tuple(int(part) for part in match.groups() if part is not None)


def _sections(read: ReadAt, head: bytes) -> List[_Section]:
    _, is_wide = _layout(head)
    places = (40, 58, "IIQQQQIIQQ") if is_wide else (32, 46, "10I")
    return [
        _Section(kind, at, size, link, entries)
        for _, kind, _, _, at, size, link, entries, _, _ in _table(read, head, *places)
    ]


def _table(
    read: ReadAt, head: bytes, start_at: int, sizes_at: int, form: str
) -> Iterator[Tuple[int, ...]]:
    """Yield the rows of a table; the head has its offset, its rows' size and their number there."""
    order, is_wide = _layout(head)
    row = struct.Struct(order + form)
    (start,) = struct.unpack_from(order + ("Q" if is_wide else "I"), head, start_at)
    size, count = struct.unpack_from(order + "HH", head, sizes_at)
    table = read(start, size * min(count, _SECTIONS_MAX))
    for at in range(0, len(table) - row.size + 1, size or row.size):
        yield row.unpack_from(table, at)


def _names(rows: bytes, strings: bytes, count: int, order: str) -> Iterator[bytes]:
    """Yield the version names in a table: a list of libraries, each with a list of versions.

    As in the loader, a list ends at the entry without a successor, whatever its count says.
    """
    at = 0
    for _ in range(min(count, _LIBRARIES_MAX)):
        _, versions, _, auxiliary, following = struct.unpack_from(order + "HHIII", rows, at)
        inner = at + auxiliary
        for _ in range(versions):
            _, _, _, name, after = struct.unpack_from(order + "IHHII", rows, inner)
            yield strings[name : strings.index(b"\0", name)]
            if not after:
                break
            inner += after
        if not following:
            break
        at += following
