"""Digests of files that were hashed as they were written, each with the status after writing.

They are noted by the process that writes a tree, and nobody else may write there.
"""

from __future__ import annotations

import os
import struct
from operator import attrgetter
from typing import Dict, Iterable, Iterator, List, Optional, Sequence

from envsync.agent.trees.stat_rows import INODE_MASK, Row, new_row

_STATUS = struct.Struct("<QQqqI")
_numbers = attrgetter("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_mode")
_BEFORE_CTIME_BYTES = struct.calcsize("<QQq")


class WrittenDigests:
    """Digests by path, each valid for one status; packed, because there may be 200,000."""

    def __init__(self) -> None:
        # Public, because a process that writes for another one hands it these.
        self.packed: Dict[bytes, bytes] = {}

    def add(self, path: bytes, status: os.stat_result, digest: bytes) -> None:
        """Note the digest of a file with this status."""
        self.packed[path] = _STATUS.pack(*_numbers(status)) + digest

    def drop(self, path: bytes) -> None:
        """Forget a file. Absence is fine."""
        self.packed.pop(path, None)

    def __len__(self) -> int:
        return len(self.packed)

    def rows(self, directory: bytes, names: Iterable[bytes]) -> Iterator[Row]:
        """Yield files' status after writing, with a link count of 1.

        Raises KeyError if one is not noted.
        """
        start = directory + b"/" if directory else b""
        packed, unpack = self.packed, _STATUS.unpack_from
        for name in names:
            inode, size_bytes, mtime_ns, ctime_ns, mode = unpack(packed[start + name])
            yield new_row((name, mode, inode, size_bytes, mtime_ns, ctime_ns, 1))

    def digests(self, directory: bytes, rows: Sequence[Row]) -> List[Optional[bytes]]:
        """Return the digest of each row's file, or None if it is not noted or has changed since.

        A further hard link changes only ctime and the link count, and links are made after the
        contents; so for a file with several names, ctime may differ.
        """
        start = directory + b"/" if directory else b""
        digests: List[Optional[bytes]] = []
        get, status_of = self.packed.get, _STATUS.pack
        for name, mode, inode, size_bytes, mtime_ns, ctime_ns, links in rows:
            packed = get(start + name)
            if packed is not None:
                status = status_of(inode & INODE_MASK, size_bytes, mtime_ns, ctime_ns, mode)
                is_it = packed.startswith(status if links <= 1 else status[:_BEFORE_CTIME_BYTES])
                packed = packed[_STATUS.size :] if is_it else None
            digests.append(packed)
        return digests


NO_WRITTEN_DIGESTS = WrittenDigests()
