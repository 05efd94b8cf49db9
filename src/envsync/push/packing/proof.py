"""A checksum in the last block of a plain tar: proves that it is as it was written.

gzip, bzip2 and xz have checksums of their own, and zstd can have one; a tar has one of its headers
only. Therefore one more block follows its end, where no reader of tars looks, with the digest of
all that precedes it. The block is not unpacked.
"""

from __future__ import annotations

import hashlib
from typing import IO

_BLOCK_BYTES = 512
_SAYS = b"envsync: sha256 of all before this block: "


def _block(digest: str) -> bytes:
    return (_SAYS + digest.encode() + b"\n").ljust(_BLOCK_BYTES, b"\0")


class Proving:
    """A file to write a tar into; `close` writes the proof and leaves the file open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.write(_block(self._digest.hexdigest()))


class Proved:
    """A tar to read; at its very end it is known whether the tar proves anything."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if len(data) >= _BLOCK_BYTES:
            self._digest.update(self._last)
            self._digest.update(memoryview(data)[:-_BLOCK_BYTES])
            self._last = data[-_BLOCK_BYTES:]
        else:
            both = self._last + data
            before = max(0, len(both) - _BLOCK_BYTES)
            self._digest.update(both[:before])
            self._last = both[before:]
        return data

    @property
    def is_there(self) -> bool:
        """Whether the tar has a proof block."""
        return self._last.startswith(_SAYS)

    @property
    def is_refuted(self) -> bool:
        """Whether the tar has a proof block that does not match its content."""
        return self.is_there and self._last != _block(self._digest.hexdigest())
