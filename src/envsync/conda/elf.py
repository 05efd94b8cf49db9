"""What an ELF file needs of the C library, read from its version records.

Only what the file's own loader would look up counts: a string that merely looks like a
version, or one that the file itself provides, is none of it.
"""

from __future__ import annotations

import re
import struct
from typing import Callable, Iterator, NamedTuple, Tuple

MAGIC = b"\x7fELF"
_NEEDED_VERSIONS = 0x6FFFFFFE  # SHT_GNU_verneed
_SECTIONS_MAX = 2000
_TABLE_BYTES_MAX = 64 << 20
_GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)(?:\.(\d+))?\Z")

Read = Callable[[int, int], bytes]
"""Gives the bytes at an offset, fewer where the file ends."""
Version = Tuple[int, ...]


class _Section(NamedTuple):
    kind: int
    offset: int
    size: int
    link: int
    entries: int


def needed_glibc(read: Read) -> Version:
    """The newest glibc that a file's symbols come from, as (2, 34); empty where none is named."""
    try:
        return max(_needed(read), default=())
    except (struct.error, ValueError, IndexError):
        return ()


def _needed(read: Read) -> Iterator[Version]:
    head = read(0, 64)
    if head[:4] != MAGIC or head[4:5] not in (b"\1", b"\2"):
        return
    order = "<" if head[5:6] == b"\1" else ">"
    sections = _sections(read, head, order)
    for section in sections:
        if section.kind == _NEEDED_VERSIONS:
            strings = sections[section.link]
            table = read(strings.offset, min(strings.size, _TABLE_BYTES_MAX))
            rows = read(section.offset, min(section.size, _TABLE_BYTES_MAX))
            for name in _names(rows, table, section.entries, order):
                match = _GLIBC.match(name)
                if match:
                    yield tuple(int(part) for part in match.groups() if part is not None)


def _sections(read: Read, head: bytes, order: str) -> Tuple[_Section, ...]:
    is_wide = head[4:5] == b"\2"
    (start,) = struct.unpack_from(order + ("Q" if is_wide else "I"), head, 40 if is_wide else 32)
    size, count = struct.unpack_from(order + "HH", head, 58 if is_wide else 46)
    table = read(start, size * min(count, _SECTIONS_MAX))
    form = struct.Struct(order + ("IIQQQQIIQQ" if is_wide else "10I"))
    found = []
    for at in range(0, len(table) - form.size + 1, size or form.size):
        _, kind, _, _, offset, length, link, entries, _, _ = form.unpack_from(table, at)
        found.append(_Section(kind, offset, length, link, entries))
    return tuple(found)


def _names(rows: bytes, strings: bytes, count: int, order: str) -> Iterator[bytes]:
    """The version names in a table: a list of libraries, each with a list of versions."""
    at = 0
    for _ in range(count):
        _, versions, _, auxiliary, following = struct.unpack_from(order + "HHIII", rows, at)
        inner = at + auxiliary
        for _ in range(versions):
            _, _, _, name, after = struct.unpack_from(order + "IHHII", rows, inner)
            yield strings[name : strings.index(b"\0", name)]
            inner += after
        at += following
