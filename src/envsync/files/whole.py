"""Atomic writes: a reader finds the old file or the new one, also after the writer was killed."""

from __future__ import annotations

import contextlib
import os
from typing import IO, AnyStr, Iterator, Tuple, Union

TEMPORARY = "tmp"
"""The prefix of a file's name while it is being written; a crash can leave such a file behind."""


@contextlib.contextmanager
def whole_file(path: AnyStr, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` when the block succeeds and is removed when it fails.

    Its mode is 0600 unless the block changes that. With `sync` the file survives a power cut once
    the block is done. Its directory must exist.
    """
    directory = os.path.dirname(path)
    fd, temporary = _temporary_file(directory)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(fd)
        os.replace(temporary, os.fsencode(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        sync_directory(directory)


def _temporary_file(directory: Union[str, bytes]) -> Tuple[int, bytes]:
    """Create a temporary file as `mkstemp` does.

    `tempfile` is not used, because importing it would slow down every start.
    """
    name = TEMPORARY + os.urandom(8).hex()
    path = os.path.join(os.fsencode(directory), name.encode())
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return fd, path


def sync_directory(path: AnyStr) -> None:
    """Make names created, renamed or removed in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
