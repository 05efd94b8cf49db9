"""Files whose bytes were hashed as they were written, and their status after that.

Only the process that writes a tree gives vouchers for it, and nobody else may write there.
"""

from __future__ import annotations

import os
import struct
from typing import Dict, KeysView, List, Optional, Sequence

from envsync.agent.trees.stat_rows import Row

_STATUS = struct.Struct("<QQqq")
_BEFORE_CTIME_BYTES = struct.calcsize("<QQq")


class Vouchers:
    """Digests by path, each good for one status. Packed: there may be 200,000."""

    def __init__(self) -> None:
        self.packed: Dict[bytes, bytes] = {}

    def add(self, path: bytes, status: os.stat_result, digest: bytes) -> None:
        """Vouch for a file that has this status."""
        numbers = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        self.packed[path] = _STATUS.pack(*numbers) + digest

    def drop(self, path: bytes) -> None:
        """No longer vouch for it. Absence is fine."""
        self.packed.pop(path, None)

    def __len__(self) -> int:
        return len(self.packed)

    def take(self, packed: Dict[bytes, bytes]) -> None:
        """Vouch for what another process has written for this one: its vouchers' `packed`."""
        self.packed.update(packed)

    def keys(self) -> KeysView[bytes]:
        return self.packed.keys()

    def digests(self, directory: bytes, rows: Sequence[Row]) -> List[Optional[bytes]]:
        """The digest of each file that is still as it was when its bytes were hashed.

        Making a further name for it changes ctime and the link count, nothing else; names
        are made only after the contents.
        """
        start = directory + b"/" if directory else b""
        found: List[Optional[bytes]] = []
        get, status_of = self.packed.get, _STATUS.pack
        for name, _, inode, size_bytes, mtime_ns, ctime_ns, links in rows:
            packed = get(start + name)
            if packed is not None:
                status = status_of(inode & _INODE_MASK, size_bytes, mtime_ns, ctime_ns)
                is_it = packed.startswith(status if links <= 1 else status[:_BEFORE_CTIME_BYTES])
                packed = packed[_STATUS.size :] if is_it else None
            found.append(packed)
        return found


_INODE_MASK = (1 << 64) - 1
NO_VOUCHERS = Vouchers()
