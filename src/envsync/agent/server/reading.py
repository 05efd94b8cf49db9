"""Opens files safely that anybody may replace at any time; closes them."""

from __future__ import annotations

import contextlib
import os
from typing import ContextManager, Iterator, Optional

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Flags that neither follow a symlink nor wait for the writer of a pipe put in the file's place."""


@contextlib.contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close a file descriptor when the block ends."""
    try:
        yield fd
    finally:
        os.close(fd)


def opened_file(path: bytes, top_fd: Optional[int] = None) -> ContextManager[int]:
    """Open a file for reading until the block ends; `path` is relative to `top_fd` if given."""
    return closing_fd(os.open(path, READ_FLAGS, dir_fd=top_fd))


def read_start(path: bytes, size_bytes: int) -> Optional[bytes]:
    """Return up to `size_bytes` from a file's start; None if it cannot be read."""
    # ValueError: no file has such a name.
    with contextlib.suppress(OSError, ValueError), open(os.open(path, READ_FLAGS), "rb") as file:
        return file.read(size_bytes)
    return None
