"""Finds where a zip archive begins in a file: some follow a program.

A zip signature alone proves nothing, because programs that read zip archives contain it too.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

_END = struct.Struct("<4s4xHHIIH")  # entries here and in total; the directory's size and offset
_END_MAGIC, _END64_MAGIC, _MEMBER_MAGIC = b"PK\x05\x06", b"PK\x06\x07", b"PK\x01\x02"
_END64_BYTES = 20
_COMMENT_BYTES_MAX = 65535
_MEMBER = struct.Struct("<4s24xHHH8xI")  # lengths of name, extra and comment; member's offset


class Archive(NamedTuple):
    """Where an archive begins, or an earlier offset, and how much later that is than it says."""

    start: int
    shifted_bytes: int


def find(content: bytes) -> Optional[Archive]:
    """Return the archive at the end of a file's content; None without one."""
    first = max(0, len(content) - _END.size - _COMMENT_BYTES_MAX)
    at = content.rfind(_END_MAGIC, first)
    while at >= 0:
        archive = _of_end(content, at)
        if archive is not None:
            return archive
        at = content.rfind(_END_MAGIC, first, at)
    return None


def _of_end(content: bytes, end_at: int) -> Optional[Archive]:
    """Return the archive of the end record at `end_at`.

    None if it is no end record, or the archive is empty.
    """
    if end_at + _END.size > len(content):
        return None
    count: int
    size: int
    offset: int
    comment: int
    _, _, count, size, offset, comment = _END.unpack_from(content, end_at)
    if content[max(0, end_at - _END64_BYTES) : end_at].startswith(_END64_MAGIC):
        return Archive(0, 0)  # one beyond 4 GB, whose exact start is not worth finding
    has_room = offset + size <= end_at and end_at + _END.size + comment <= len(content)
    if not count or not has_room:
        return None
    directory_at = end_at - size
    if not content.startswith(_MEMBER_MAGIC, directory_at):
        return None
    # Offsets count from the start of the archive, or of the file.
    shifted_bytes = directory_at - offset
    return Archive(shifted_bytes + _first_member(content, directory_at, end_at), shifted_bytes)


def _first_member(content: bytes, at: int, end: int) -> int:
    """Return the least member offset in a directory; 0 if it cannot be read to its end."""
    least = end
    while at + _MEMBER.size <= end:
        magic, name, extra, comment, offset = _MEMBER.unpack_from(content, at)
        if magic != _MEMBER_MAGIC:
            return 0
        least = min(least, offset)
        at += _MEMBER.size + name + extra + comment
    return least if at == end else 0
