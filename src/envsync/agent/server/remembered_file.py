"""A small cache file, written atomically, and ignored if it is damaged.

It is also ignored if somebody else could have written it, as in a shared cache directory.
"""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from typing import Optional

from envsync.agent.server.accounts import is_own
from envsync.files.whole import whole_file

_SUM_BYTES = 4
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def only_user_writes(fd: int) -> bool:
    """Return whether only this user can have written an open file."""
    status = os.fstat(fd)
    return is_own(status) and not status.st_mode & _OTHERS_WRITE


def load(path: Optional[str], magic: bytes) -> Optional[bytes]:
    """Return what was stored; None if it is missing or damaged, or others could write it."""
    if path is None:
        return None
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if not only_user_writes(file.fileno()):
            return None
        data = file.read()
        start = len(magic) + _SUM_BYTES
        if data[:start] == _head(magic, data[start:]):
            return data[start:]
    return None


def store(path: Optional[str], magic: bytes, body: bytes) -> None:
    """Write the file atomically; failures are ignored, as a cache is optional."""
    if path is None:
        return
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with whole_file(path) as file:
            file.writelines([_head(magic, body), body])


def _head(magic: bytes, body: bytes) -> bytes:
    return magic + zlib.crc32(body).to_bytes(_SUM_BYTES, "little")
