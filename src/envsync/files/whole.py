"""A file is written whole, in one step: a reader, or a crash, finds the old one or the new."""

from __future__ import annotations

import contextlib
import os
from typing import IO, AnyStr, Iterator, Tuple, Union

TEMPORARY = "tmp"
"""How the name of one begins that has not got its own yet; a crash may leave it so."""


@contextlib.contextmanager
def whole_file(path: AnyStr, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """A file to write, which is `path` once the block is done, and is nowhere where that fails.

    This user's alone (0600) unless the block changes that. With `sync` it outlives a power
    cut from then on. Its directory has to be there.
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
    """As `mkstemp` makes one, whose module is half as long to import as all of this layer."""
    name = TEMPORARY + os.urandom(8).hex()
    path = os.path.join(os.fsencode(directory), name.encode())
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return fd, path


def sync_directory(path: AnyStr) -> None:
    """Make names created, renamed or removed in a directory outlive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
