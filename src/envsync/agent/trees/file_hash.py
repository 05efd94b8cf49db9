"""SHA-256 of one file, and the same for a process that does nothing else."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Optional

from envsync.agent.server.reading import READ_FLAGS

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES = 1 << 18
SMALL_BYTES = 1 << 15
MISSING = b"\0" * 32
"""In place of a digest: the file is gone or may not be read."""

WORKER_CODE = """
import hashlib
buffer = bytearray(block)
view = memoryview(buffer)
def answer(request):
    inode, _, path = request.partition(b"/")
    try:
        fd = os.open(path, flags, dir_fd=top)
    except OSError:
        return bytes(32)
    try:
        if int(inode) and os.fstat(fd).st_ino != int(inode):
            return bytes(32)
        state = hashlib.sha256()
        while True:
            count = os.readv(fd, [buffer])
            if not count:
                return state.digest()
            state.update(view[:count])
    except OSError:
        return bytes(32)
    finally:
        os.close(fd)
"""
"""`hash_file` for a worker (`server.file_workers`): a request is `INODE/PATH`."""


def hash_open_file(fd: int) -> bytes:
    """SHA-256 from the current position to the end."""
    state = hashlib.sha256()
    block = os.read(fd, SMALL_BYTES)
    while block:
        state.update(block)
        if len(block) == SMALL_BYTES:
            return _hash_rest(fd, state)
        block = os.read(fd, SMALL_BYTES)
    return state.digest()


def _hash_rest(fd: int, state: _Hash) -> bytes:
    # One large buffer for a large file; for a small one, having it costs more than reading.
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    while True:
        count = os.readv(fd, [buffer])
        if not count:
            return state.digest()
        state.update(view[:count])


def hash_file(top_fd: int, path: bytes, inode: int = 0) -> Optional[bytes]:
    """SHA-256 of a file below an open directory; None where it cannot be read.

    So it is where `inode` is given and another file is found.
    """
    try:
        fd = os.open(path, READ_FLAGS, dir_fd=top_fd)
    except OSError:
        return None
    try:
        if inode and os.fstat(fd).st_ino != inode:
            return None
        return hash_open_file(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def why_unreadable(top_fd: int, path: bytes) -> Optional[OSError]:
    """The error that reading a file ends with; None where it can be read (now)."""
    try:
        fd = os.open(path, READ_FLAGS, dir_fd=top_fd)
        try:
            hash_open_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return error
    return None
