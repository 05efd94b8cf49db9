"""A directory's entries as bytes: the unit of caching, comparing and sending.

Two directories whose entries are the same have the same bytes, so most work on two
manifests is a comparison of bytes, and only what differs is ever decoded.

Layout, little-endian, entries in ascending order of name:

    u8   kind; 0x80 is set where a hard-link group follows
    u16  mode
    u16  length of the name
    u16  length of the content
    i64  mtime in nanoseconds
    u64  size in bytes
    name, content, and 8 bytes of hard-link group where flagged
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from typing import Collection, Iterable, Iterator, List, Mapping, Tuple

from envsync.tree.entry import LINK_GROUP_BYTES, Entry, InvalidEntry, check_entry

_HEAD = struct.Struct("<BHHHqQ")
_GROUPED = 0x80

Listing = bytes


def encode(entries: Iterable[Entry]) -> Listing:
    """Return the bytes of `entries`, which must be sorted by name."""
    parts: List[bytes] = []
    pack = _HEAD.pack
    for name, kind, mode, size_bytes, mtime_ns, content, group in entries:
        flagged = kind | _GROUPED if group else kind
        parts.append(pack(flagged, mode, len(name), len(content), mtime_ns, size_bytes))
        parts.append(name)
        parts.append(content)
        if group:
            parts.append(group)
    return b"".join(parts)


def decode(listing: Listing) -> Tuple[Entry, ...]:
    """Return the entries that `encode` was given. Only for bytes of envsync's own making."""
    return _decode(listing)[0]


def _decode(listing: Listing) -> Tuple[Tuple[Entry, ...], int]:
    """Return the entries and the position where they end.

    That position lies beyond the end of a listing that is cut short.
    """
    entries: List[Entry] = []
    position, end = 0, len(listing)
    unpack_from, head_size = _HEAD.unpack_from, _HEAD.size
    # `tuple.__new__` avoids Entry's constructor, which takes a third of the whole time.
    new = tuple.__new__
    while position < end:
        kind, mode, name_size, content_size, mtime_ns, size = unpack_from(listing, position)
        start = position + head_size
        middle = start + name_size
        position = middle + content_size
        group = b""
        if kind & _GROUPED:
            kind &= ~_GROUPED
            group = listing[position : position + LINK_GROUP_BYTES]
            position += LINK_GROUP_BYTES
        name, content = listing[start:middle], listing[middle : middle + content_size]
        entries.append(new(Entry, (name, kind, mode, size, mtime_ns, content, group)))
    return tuple(entries), position


def names(listing: Listing) -> Iterator[bytes]:
    """Yield the names of the entries. Only for bytes of envsync's own making, or to count them."""
    position = 0
    while position < len(listing):
        kind, _, name_size, content_size, _, _ = _HEAD.unpack_from(listing, position)
        start = position + _HEAD.size
        yield listing[start : start + name_size]
        position = start + name_size + content_size
        position += LINK_GROUP_BYTES if kind & _GROUPED else 0


def decode_foreign(listing: Listing, entries_max: int) -> Tuple[Entry, ...]:
    """Return the entries of bytes from elsewhere, after checking them.

    Names must ascend strictly, so nothing comes twice, and the bytes must be exactly what `encode`
    gives for the result. A listing of more than `entries_max` entries is refused before it is
    decoded. Raises `InvalidEntry` for anything that a scan could not have made.
    """
    try:
        # Counted by names first: decoded, entries take ten times their bytes of memory.
        if len(listing) > entries_max * _HEAD.size and sum(1 for _ in names(listing)) > entries_max:
            raise InvalidEntry(f"more than {entries_max} entries")
        entries, end = _decode(listing)
    except struct.error as error:
        raise InvalidEntry("an incomplete listing") from error
    # There can be no other stray bytes: each one up to `end` belongs to a field that is checked
    # below.
    if end != len(listing):
        raise InvalidEntry("an incomplete listing")
    previous = b""
    for entry in entries:
        check_entry(entry)
        if entry.name <= previous:
            raise InvalidEntry(f"an unsorted listing: {entry.name!r}")
        previous = entry.name
    return entries


FEW_MARKS = 48
"""The most marks for which searching encoded listings is quicker than decoding them all."""

_TOGETHER = 256
"""How many listings are joined and searched as one: most contain no mark, and each search has a
fixed cost."""


def that_may_hold(
    listings: Mapping[bytes, Listing], marks: Collection[bytes]
) -> Iterator[Tuple[bytes, Listing]]:
    """Yield the directories whose entries may have one of the contents or hard-link groups `marks`.

    No entry of any other directory has one.
    """
    every = iter(listings.items())
    if len(marks) > FEW_MARKS:
        yield from every
        return
    while marks:
        some = list(itertools.islice(every, _TOGETHER))
        if not some:
            return
        together = b"".join([listing for _, listing in some])
        near = [mark for mark in marks if mark in together]
        if not near:
            continue
        for path, listing in some:
            if any(mark in listing for mark in near):
                yield path, listing


def link_group(first_path: bytes) -> bytes:
    """Return the id of a hard-link group, made from the first of its members' paths."""
    return hashlib.sha256(first_path).digest()[:LINK_GROUP_BYTES]
