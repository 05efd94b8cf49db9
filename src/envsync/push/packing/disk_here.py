"""What a full or failing disk of this machine means to somebody who packs or unpacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envsync.agent.server.disk_failures import failure_here
from envsync.errors import NoSpace

LARGER_CACHE = "set XDG_CACHE_HOME to a larger disk"
OTHER_OUTPUT = "write the archive elsewhere: -o FILE"


@contextmanager
def disk_here(directory: Path, elsewhere: str) -> Iterator[None]:
    """Translate the OSError of a disk that fails or is full while `directory` is written.

    `elsewhere` says how to have another directory used.
    """
    try:
        yield
    except OSError as error:
        failure = failure_here(error)
        if failure is None:
            raise
        if isinstance(failure, NoSpace):
            raise NoSpace(
                f"there is no space at {directory}: {error.strerror}",
                hint=f"free some space there, or {elsewhere}",
            ) from error
        raise failure from error
