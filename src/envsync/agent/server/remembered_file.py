"""A small file in the user's cache: written whole, and nothing where it is damaged.

Nor where somebody else could have written it, as in a cache directory that several share.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import zlib
from typing import Optional

_SUM_BYTES = 4
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def load(path: Optional[str], magic: bytes) -> Optional[bytes]:
    """What was stored; None where there is none, or not all of it. Never raises."""
    if path is None:
        return None
    with contextlib.suppress(OSError), open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            return None
        data = file.read()
        start = len(magic) + _SUM_BYTES
        if data[:start] == _head(magic, data[start:]):
            return data[start:]
    return None


def store(path: Optional[str], magic: bytes, body: bytes) -> None:
    """Put it there in one step, or leave it: a cache that cannot be written is none."""
    if path is None:
        return
    with contextlib.suppress(OSError):
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=directory)
        try:
            with os.fdopen(fd, "wb") as file:
                file.writelines([_head(magic, body), body])
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def _head(magic: bytes, body: bytes) -> bytes:
    return magic + zlib.crc32(body).to_bytes(_SUM_BYTES, "little")
