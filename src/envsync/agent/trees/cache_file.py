"""The file format of a content cache: a JSON head, then what is known of each directory."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from typing import IO, Callable, Dict, Iterator, NamedTuple, Optional, Tuple

from envsync.agent.server.remembered_file import only_user_writes
from envsync.agent.trees.changes import Moment
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.errors import AgentFailed
from envsync.files.whole import whole_file
from envsync.tree.listing import Listing
from envsync.tree.manifest import Totals

MAGIC = b"envsync content cache 6\n"
_SUMS = struct.Struct("<II")
_START_BYTES = len(MAGIC) + _SUMS.size
_ROW = struct.Struct("<HIIBIQ")
_SPARE_BYTES = 256


class Known(NamedTuple):
    """What is known of one directory: its packed rows, listing, and part of the revision.

    `files` and `size_bytes` are its share of the manifest's totals.
    """

    rows: bytes
    listing: Listing
    digest: bytes
    files: int
    size_bytes: int


class Seen(NamedTuple):
    """What a scan has besides its rows and signature (see `Scan` and `StoredRows`).

    Paths are texts, because they are stored as JSON.
    """

    mode: int
    mtime_ns: int
    entries: int
    newest_ns: int
    moment: Moment
    local: Tuple[str, ...]
    special: Tuple[str, ...]
    foreign: Tuple[str, ...]
    busy_paths: Tuple[str, ...]
    busy_times_ns: Tuple[int, ...]
    parts: Tuple[Tuple[str, ...], ...]
    upper: Tuple[str, ...]


class Head(NamedTuple):
    """What is known of the whole tree.

    The rows are valid in the boot with the ID `boot`, or in any if that is "any".
    """

    signature: str
    revision: str
    totals: Totals
    seen: Seen
    boot: str
    body_bytes: int = 0
    body_crc: int = 0


class CacheFile:
    """A cache file. Reading never raises OSError, and a damaged file counts as missing.

    So does one that another user could have written, as in a shared cache directory.
    Without a path there is never a file, and writing raises OSError.
    `write` never disturbs a reader; one that reads during `change_head` can find a damaged file.
    """

    def __init__(self, path: Optional[str]) -> None:
        self._path = path or ""  # no file can have this path

    def head(self) -> Optional[Head]:
        """Return the head, without reading the rest; None if it is missing or damaged."""
        try:
            with open(self._path, "rb") as file:
                return _read_head(file)
        except OSError:
            return None

    def whole(self) -> Optional[Tuple[Head, Dict[bytes, Known]]]:
        """Return the head and each directory (none if these are damaged); None without a head."""
        try:
            with open(self._path, "rb") as file:
                head = _read_head(file)
                return None if head is None else (head, _known(head, file.read()))
        except OSError:
            return None

    def write(self, head: Head, directories: Dict[bytes, Known]) -> None:
        """Replace the file; OSError if that fails."""
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        with whole_file(self._path) as file:
            room_bytes = len(_packed_head(head))
            file.seek(room_bytes)
            body_bytes, body_crc = _write_body(file, directories)
            file.seek(0)
            whole = head._replace(body_bytes=body_bytes, body_crc=body_crc)
            file.write(_packed_head(whole, room_bytes))

    def change_head(self, change: Callable[[Head], Head]) -> None:
        """Overwrite the head with a changed one, if it fits; no error if that fails.

        One file descriptor is used to read and write, so that a file with which another process
        replaces this one meanwhile is not touched.
        """
        with contextlib.suppress(OSError), open(self._path, "r+b") as file:
            head = _read_head(file)
            if head is None:
                return
            room_bytes = file.tell()
            packed = _packed_head(change(head), room_bytes)
            if len(packed) == room_bytes:
                file.seek(0)
                file.write(packed)

    def remove(self) -> None:
        """Remove the file; no error if that fails."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _read_head(file: IO[bytes]) -> Optional[Head]:
    """Read a file up to the end of its head; None if damaged, or if others could write it."""
    if not only_user_writes(file.fileno()):
        return None
    start = file.read(_START_BYTES)
    if start[: len(MAGIC)] != MAGIC:
        return None
    try:
        size, crc = _SUMS.unpack_from(start, len(MAGIC))
        packed = file.read(size)
        return from_json(Head, json.loads(packed)) if zlib.crc32(packed) == crc else None
    except (AgentFailed, ValueError, RecursionError, struct.error):
        return None


def _packed_head(head: Head, room_bytes: int = 0) -> bytes:
    """Return the head with magic and checksum, padded with blanks to `room_bytes`.

    Without `room_bytes`, some blanks are added, because a later head may be longer.
    """
    text = json.dumps(to_json(head)).encode()
    text = text.ljust(room_bytes - _START_BYTES if room_bytes else len(text) + _SPARE_BYTES)
    return MAGIC + _SUMS.pack(len(text), zlib.crc32(text)) + text


def _write_body(file: IO[bytes], directories: Dict[bytes, Known]) -> Tuple[int, int]:
    """Write the directories; return the length and checksum of what was written."""
    length_bytes = crc = 0
    for path, known in directories.items():
        rows, listing, digest, files, size_bytes = known
        sizes = len(path), len(rows), len(listing), len(digest)
        start = _ROW.pack(*sizes, files, size_bytes)
        part = b"".join((start, path, rows, listing, digest))
        length_bytes += len(part)
        crc = zlib.crc32(part, crc)
        file.write(part)
    return length_bytes, crc


def _known(head: Head, body: bytes) -> Dict[bytes, Known]:
    if len(body) != head.body_bytes or zlib.crc32(body) != head.body_crc:
        return {}
    try:
        return dict(_read_body(body))
    except (struct.error, ValueError):
        return {}


def _read_body(body: bytes) -> Iterator[Tuple[bytes, Known]]:
    position = 0
    while position < len(body):
        name, rows, listing, digest, files, size_bytes = _ROW.unpack_from(body, position)
        at = position + _ROW.size
        rows_at = at + name
        listing_at = rows_at + rows
        digest_at = listing_at + listing
        position = digest_at + digest
        yield (
            body[at:rows_at],
            Known(
                body[rows_at:listing_at],
                body[listing_at:digest_at],
                body[digest_at:position],
                files,
                size_bytes,
            ),
        )
