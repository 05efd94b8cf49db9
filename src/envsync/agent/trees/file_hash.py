"""SHA-256 of one file."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Optional

from envsync.agent.server.reading import READ_FLAGS

if TYPE_CHECKING:
    from hashlib import _Hash

READ_BYTES = 1 << 18
SMALL_FILE_BYTES = 1 << 15
MISSING = b"\0" * 32
"""Stands in for the digest of a file that is gone or cannot be read."""


def hash_open_file(fd: int) -> bytes:
    """Return the SHA-256 of a file from the current position to the end."""
    state = hashlib.sha256()
    block = os.read(fd, SMALL_FILE_BYTES)
    while block:
        state.update(block)
        if len(block) == SMALL_FILE_BYTES:
            return _hash_rest(fd, state)
        block = os.read(fd, SMALL_FILE_BYTES)
    return state.digest()


def _hash_rest(fd: int, state: _Hash) -> bytes:
    # A large buffer pays off only for a large file; for a small one, it costs more than reading.
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    while True:
        count = os.readv(fd, [buffer])
        if not count:
            return state.digest()
        state.update(view[:count])


def hash_file(top_fd: int, path: bytes, inode: int) -> Optional[bytes]:
    """Return the SHA-256 of a file below an open directory; None if it cannot be read.

    None also if the file at the path has another inode.
    """
    try:
        fd = os.open(path, READ_FLAGS, dir_fd=top_fd)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_ino != inode:
            return None
        return hash_open_file(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
