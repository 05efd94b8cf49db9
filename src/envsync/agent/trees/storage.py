"""Translates system errors of disks (full, failing, read-only) into errors for people."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple, Type, Union

from envsync.agent.server.filesystem import Space
from envsync.agent.trees.file_hash import why_unreadable
from envsync.errors import EnvsyncError, Hint, NoSpace, StorageFailed
from envsync.texts.sizes import size

_BROKEN = frozenset(
    {
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
        errno.EUCLEAN,  # corrupt filesystem metadata
        errno.EBADMSG,  # a wrong checksum
    }
)
_OF_ENTRY = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.EBUSY,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENOTEMPTY,
        errno.ELOOP,
    }
)
_FREE = "free some space there (`envsync gc {server}` frees what no version needs)"
_FREE_INODES = "remove some files there (`envsync gc {server}` removes what no version needs)"
_MEND = "check `dmesg` there and repair the disk"
_REMOUNT = "check `dmesg` there for the cause, and mount it read-write again"


_PATHS_MAX = 10


SPARE_BYTES, SPARE_INODES = 64 << 20, 1000
"""The space that a push leaves free."""

_SPARE = Space(SPARE_BYTES, SPARE_INODES)
_SPARE_OF_ROLLBACK = Space(8 << 20, 100)
"""Just enough for its records, because a rollback should work even on a nearly full disk."""


def require_room(
    free: Space, new_bytes: int, new_inodes: int, *, is_rollback: bool = False
) -> None:
    """Raise `NoSpace` if a push or rollback that adds this much would leave too little free."""
    action, spare = ("rollback", _SPARE_OF_ROLLBACK) if is_rollback else ("push", _SPARE)
    needed = new_bytes + spare.free_bytes
    if needed > free.free_bytes:
        raise NoSpace(
            f"the {action} needs {size(needed)}, including {size(spare.free_bytes)} "
            f"to spare, but {size(free.free_bytes)} are free",
            hint=Hint(_FREE),
        )
    spare_inodes = spare.free_inodes or 0
    inodes = new_inodes + spare_inodes
    if free.free_inodes is not None and inodes > free.free_inodes:
        raise NoSpace(
            f"the {action} needs {inodes:,} inodes, including {spare_inodes:,} to spare, "
            f"but {free.free_inodes:,} are free",
            hint=Hint(_FREE_INODES),
        )


class Trouble(NamedTuple):
    """A disk's trouble in a few words, and what has to be done before the next push.

    `kind` is the class of the error to raise, `cure` the template of a hint.
    """

    kind: Type[EnvsyncError]
    reason: str
    cure: str


def trouble(error: OSError) -> Optional[Trouble]:
    """Return the disk's trouble behind a system error, or None if it has another cause."""
    if error.errno == errno.ENOSPC:
        return Trouble(NoSpace, "its disk is full", _FREE)
    if error.errno == errno.EDQUOT:
        return Trouble(NoSpace, "its quota is used up", _FREE)
    if error.errno == errno.EROFS:
        return Trouble(StorageFailed, "its filesystem is read-only", _REMOUNT)
    if error.errno in _BROKEN:
        return Trouble(StorageFailed, f"its disk fails ({os.strerror(error.errno)})", _MEND)
    return None


def is_of_entry(error: OSError) -> bool:
    """Return whether the error is due to the entry: its owner, mode or kind, or what is in the way.

    That is, not to a disk, nor to a machine that lacks memory or file descriptors.
    """
    return error.errno in _OF_ENTRY


def words(error: Union[EnvsyncError, OSError]) -> str:
    """Return an error as text for people, such as `/w/envs/e/lib: Permission denied`."""
    if not isinstance(error, OSError):
        return error.message
    name = error.filename
    where = f"{os.fsdecode(name)}: " if isinstance(name, (str, bytes)) else ""
    return where + (error.strerror or str(error))


def storage_failure(error: OSError) -> Optional[EnvsyncError]:
    """Return the error for people when nothing was switched; None if it is no disk trouble."""
    disk_trouble = trouble(error)
    if disk_trouble is None:
        return None
    return disk_trouble.kind(
        f"{disk_trouble.reason}; the live environment is untouched",
        hint=Hint(f"{disk_trouble.cure}, then try again"),
        details=_paths(error),
    )


@contextlib.contextmanager
def space_guard() -> Iterator[None]:
    """Translate the OSError of a full or failing disk into the error for people."""
    try:
        yield
    except OSError as error:
        failure = storage_failure(error)
        if failure is None:
            raise
        raise failure from error


def failure_here(error: OSError) -> Optional[EnvsyncError]:
    """Return the error for a disk of the machine that the command runs on; None as above."""
    disk_trouble = trouble(error)
    return disk_trouble and disk_trouble.kind(
        f"a disk of this machine cannot be used: {words(error)}",
        hint="`df -h`, `df -i` and `dmesg` show which, and why",
    )


def failure_of(error: Union[EnvsyncError, OSError], server: str) -> EnvsyncError:
    """Return any failure of a server's share of the work as an error for people, naming a server.

    A system error that reaches this machine's side is about this machine.
    """
    if isinstance(error, EnvsyncError):
        failure = error
    else:
        failure = failure_here(error) or EnvsyncError(words(error))
    failure.server = failure.server or server
    return failure


PUBLISHED = "the new version is live, but could not be recorded", "push again"
ROLLED_BACK = (
    "the earlier version is live, but that could not be recorded",
    "run any command for it there",
)
REMOVED = "it was removed there, but that could not be recorded", "run any command for it there"


def failure_after_switch(error: OSError, done: Tuple[str, str]) -> Optional[EnvsyncError]:
    """Return the error for people when a switch is done, and what follows it could not be.

    `done` is `PUBLISHED`, `ROLLED_BACK` or `REMOVED`. None if it is no disk trouble.
    """
    disk_trouble = trouble(error)
    if disk_trouble is None:
        return None
    message, command = done
    return disk_trouble.kind(
        f"{message}: {disk_trouble.reason}",
        hint=Hint(f"{disk_trouble.cure}, then {command} to complete it"),
        details=_paths(error),
    )


def require_good_disk(top_fd: int, unreadable: Sequence[bytes]) -> None:
    """Raise `StorageFailed` if a disk fails to read one of these files; the first 10 are tried."""
    bad: List[str] = []
    disk_trouble: Optional[Trouble] = None
    for path in unreadable[:_PATHS_MAX]:
        error = why_unreadable(top_fd, path)
        reason = None if error is None else trouble(error)
        if reason is not None:
            disk_trouble = disk_trouble or reason
            bad.append(os.fsdecode(path))
    if disk_trouble is not None:
        raise StorageFailed(
            f"files cannot be read: {disk_trouble.reason}",
            hint=Hint(f"{disk_trouble.cure}, then try again"),
            details=bad,
        )


def _paths(error: OSError) -> tuple[str, ...]:
    """Return the error's path; none if it is relative to an open directory, which helps nobody."""
    name = error.filename
    return (os.fsdecode(name),) if isinstance(name, (str, bytes)) and os.path.isabs(name) else ()
