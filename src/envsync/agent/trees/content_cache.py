"""What was hashed before, by status: a file per tree in the user's own cache directory.

A tree is known by device and inode of its top directory, so a rename keeps what is known
of it. A row counts only while inode, size, mtime and ctime are what they were (or while the
count of links says why ctime is not, and the inode is older than the row); a file that
changed so shortly before it was hashed that a later change could carry the same stamp gets
no row. Rows are void after a reboot unless a sync of the filesystem followed the hashing.
A damaged file is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import struct
import tempfile
import zlib
from typing import Dict, Iterable, Iterator, NamedTuple, Optional, Tuple

from envsync.tree.listing import Listing
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Totals

_MAGIC = b"envsync content cache 4\n"
_ROW = struct.Struct("<HIIBIQ")
_BOOT = "%-36s"
_ANY_BOOT = _BOOT % "any"
_UNKNOWN_BOOT = "unknown"


class Summary(NamedTuple):
    """What is known of a whole tree when its signature is what it was."""

    signature: bytes
    revision: str
    totals: Totals
    mode: int
    mtime_ns: int


class Known(NamedTuple):
    """What is known of one directory: its packed rows, listing, and part of the revision.

    `files` and `size_bytes` are what it adds to the manifest's totals.
    """

    rows: bytes
    listing: Listing
    digest: bytes
    files: int
    size_bytes: int


class ContentCache:
    """The cache file of one tree. Reading never raises; writing never harms a reader."""

    def __init__(self, directory: Optional[str], device: int, inode: int, local: LocalPaths):
        patterns = hashlib.sha256("\0".join(local.patterns).encode("utf-8", "replace"))
        name = "%x-%x-%s" % (device, inode, patterns.hexdigest()[:12])
        self._path = None if directory is None else os.path.join(directory, name)

    def summary(self) -> Optional[Summary]:
        """What is known of the whole tree; None where nothing is."""
        head = self._head()
        if head is None or not head[0]["signature"]:
            return None
        try:
            return _summary(head[0])
        except (TypeError, ValueError):
            return None

    def directories(self) -> Dict[bytes, Known]:
        """What is known of each directory; empty where nothing is or the file is damaged."""
        head = self._head(whole=True)
        return {} if head is None else self._known(*head)

    @staticmethod
    def _known(document: dict, body: bytes) -> Dict[bytes, Known]:  # type: ignore[type-arg]
        if len(body) != document["body_bytes"] or zlib.crc32(body) != document["body_crc"]:
            return {}
        try:
            return dict(_rows(body))
        except (struct.error, ValueError):
            return {}

    def of_tree(self, signature: bytes) -> Dict[bytes, Known]:
        """What is known of the tree with that signature; empty where it is another."""
        head = self._head(whole=True)
        if head is None or head[0]["signature"] != signature.hex():
            return {}
        return self._known(*head)

    def store(self, summary: Summary, directories: Dict[bytes, Known], synced: bool) -> None:
        """Replace what is known. An empty signature makes only the rows count."""
        if self._path is None:
            return
        body_bytes = body_crc = 0
        for part in _packed(directories):
            body_bytes += len(part)
            body_crc = zlib.crc32(part, body_crc)
        document = {
            "signature": summary.signature.hex(),
            "revision": summary.revision,
            "totals": list(summary.totals),
            "mode": summary.mode,
            "mtime_ns": summary.mtime_ns,
            "body_bytes": body_bytes,
            "body_crc": body_crc,
            "boot": _ANY_BOOT if synced else _BOOT % (boot_id() or _UNKNOWN_BOOT),
        }
        head = _packed_head(document)
        with contextlib.suppress(OSError):
            _replace(self._path, itertools.chain([head], _packed(directories)))

    def mark_synced(self) -> None:
        """The filesystem was synced after the hashing: the rows outlive a reboot.

        Only the head is written, over the one of equal length that is there.
        """
        head = self._head()
        if head is not None and self._path is not None:
            with contextlib.suppress(OSError), open(self._path, "r+b") as file:
                file.write(_packed_head({**head[0], "boot": _ANY_BOOT}))

    def forget(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _head(self, whole: bool = False) -> Optional[Tuple[dict, bytes]]:  # type: ignore[type-arg]
        if self._path is None:
            return None
        try:
            with open(self._path, "rb") as file:
                start = file.read(len(_MAGIC) + 8)
                if start[: len(_MAGIC)] != _MAGIC:
                    return None
                size, crc = struct.unpack_from("<II", start, len(_MAGIC))
                head = file.read(size)
                if zlib.crc32(head) != crc:
                    return None
                document = json.loads(head)
                if not _is_head(document):
                    return None
                if document["boot"] not in (_ANY_BOOT, _BOOT % boot_id()):
                    return None
                return document, file.read() if whole else b""
        except (OSError, ValueError, RecursionError, struct.error):
            return None


_HEAD_KINDS = {
    "signature": str,
    "revision": str,
    "totals": list,
    "mode": int,
    "mtime_ns": int,
    "body_bytes": int,
    "body_crc": int,
}


def _is_head(document: object) -> bool:
    """Whether it has what every head has."""
    return (
        isinstance(document, dict)
        and "boot" in document
        and all(type(document.get(name)) is kind for name, kind in _HEAD_KINDS.items())
    )


def _summary(document: dict) -> Summary:  # type: ignore[type-arg]
    return Summary(
        bytes.fromhex(document["signature"]),
        document["revision"],
        Totals(*document["totals"]),
        document["mode"],
        document["mtime_ns"],
    )


def _packed_head(document: dict) -> bytes:  # type: ignore[type-arg]
    head = json.dumps(document).encode()
    return _MAGIC + struct.pack("<II", len(head), zlib.crc32(head)) + head


def _packed(directories: Dict[bytes, Known]) -> Iterator[bytes]:
    for path, known in directories.items():
        sizes = len(path), len(known.rows), len(known.listing), len(known.digest)
        yield _ROW.pack(*sizes, known.files, known.size_bytes)
        yield path
        yield known.rows
        yield known.listing
        yield known.digest


def _rows(body: bytes) -> Iterator[Tuple[bytes, Known]]:
    position = 0
    while position < len(body):
        *sizes, files, size_bytes = _ROW.unpack_from(body, position)
        position += _ROW.size
        parts = []
        for size in sizes:
            parts.append(body[position : position + size])
            position += size
        yield parts[0], Known(parts[1], parts[2], parts[3], files, size_bytes)


def _replace(path: str, parts: Iterable[bytes]) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(parts)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def boot_id() -> str:
    """The kernel's name for this boot; empty where it does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def home(environ: os._Environ[str] | Dict[str, str]) -> str:
    """The user's home, by the account where no variable says it; empty where there is none."""
    if "HOME" in environ:
        return environ["HOME"]
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_dir
    return ""


def cache_directory(environ: os._Environ[str] | Dict[str, str]) -> Optional[str]:
    """Where the content cache is kept; None for a user without a home."""
    base = environ.get("XDG_CACHE_HOME") or ""
    if not base and home(environ):
        base = os.path.join(home(environ), ".cache")
    return os.path.join(base, "envsync", "content") if os.path.isabs(base) else None
