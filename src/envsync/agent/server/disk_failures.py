"""Translates the system errors of disks that are full, failing or read-only for people."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Iterator, NamedTuple, Optional, Tuple, Type, Union

from envsync.agent.server.filesystem import Space
from envsync.agent.server.limits import FILE_SIZE, reached_limit
from envsync.errors import EnvsyncError, Hint, LimitReached, NoSpace, StorageFailed
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
_RAISE = "raise that limit there"
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
    if new_bytes + spare.free_bytes > free.free_bytes:
        raise NoSpace(
            f"the {action} needs {size(new_bytes)} and {size(spare.free_bytes)} to spare, "
            f"but {size(free.free_bytes)} are free",
            hint=Hint(_FREE),
        )
    spare_inodes = spare.free_inodes or 0
    if free.free_inodes is not None and new_inodes + spare_inodes > free.free_inodes:
        raise NoSpace(
            f"the {action} needs {new_inodes:,} inodes and {spare_inodes:,} to spare, "
            f"but {free.free_inodes:,} are free",
            hint=Hint(_FREE_INODES),
        )


class DiskTrouble(NamedTuple):
    """A disk's trouble in a few words, and what has to be done before the next push.

    `kind` is the class of the error to raise, `cure` the template of a hint.
    """

    kind: Type[EnvsyncError]
    reason: str
    cure: str

    def failure(self, message: str, then: str, error: OSError) -> EnvsyncError:
        """Return the error for people; `then` is what they do after the cure."""
        return self.kind(message, hint=Hint(f"{self.cure}[[, then {then}]]"), details=_paths(error))


def disk_trouble(error: OSError) -> Optional[DiskTrouble]:
    """Return the disk's trouble behind a system error, or None if it has another cause."""
    if error.errno == errno.ENOSPC:
        return DiskTrouble(NoSpace, "its disk is full", _FREE)
    if error.errno == errno.EDQUOT:
        return DiskTrouble(NoSpace, "its quota is used up", _FREE)
    if error.errno == errno.EFBIG:
        return DiskTrouble(LimitReached, FILE_SIZE, _RAISE)
    if error.errno == errno.EROFS:
        return DiskTrouble(StorageFailed, "its filesystem is read-only", _REMOUNT)
    if error.errno in _BROKEN:
        return DiskTrouble(StorageFailed, f"its disk fails ({os.strerror(error.errno)})", _MEND)
    return None


def is_of_disk(error: OSError) -> bool:
    """Return whether the error is due to a disk that is full, failing or read-only.

    A limit on the size of a file counts as one: no other copy of that file would succeed, either.
    """
    return disk_trouble(error) is not None


def is_of_entry(error: OSError) -> bool:
    """Return whether the error is due to the entry: its owner, mode or kind, or what is in the way.

    That is, not to a disk, nor to a machine that lacks memory or file descriptors.
    """
    return error.errno in _OF_ENTRY


def error_text(error: Union[EnvsyncError, OSError]) -> str:
    """Return an error as text for people, such as `/w/envs/e/lib: Permission denied`."""
    if not isinstance(error, OSError):
        return error.message
    name = error.filename
    where = f"{os.fsdecode(name)}: " if isinstance(name, (str, bytes)) else ""
    return where + (error.strerror or str(error))


def storage_failure(error: OSError) -> Optional[EnvsyncError]:
    """Return the error for people when nothing was switched; None if it is no disk trouble."""
    trouble = disk_trouble(error)
    if trouble is None:
        return None
    message = f"{trouble.reason}; the live environment is untouched"
    return trouble.failure(message, "try again", error)


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


def failure_here(error: Exception) -> Optional[EnvsyncError]:
    """Return the error for a disk or limit of this command's machine; None if it is neither."""
    limit = reached_limit(error)
    if limit is not None:
        return LimitReached(
            f"on this machine, {limit.text}", hint="raise that limit, or end other programs"
        )
    if not isinstance(error, OSError):
        return None
    trouble = disk_trouble(error)
    if trouble is None:
        return None
    return trouble.kind(
        f"a disk of this machine cannot be used: {error_text(error)}",
        hint="`df -h`, `df -i` and `dmesg` show which, and why",
    )


def failure_of(error: Union[EnvsyncError, OSError], server: str) -> EnvsyncError:
    """Return any failure of a server's share of the work as an error for people, naming a server.

    A system error that reaches this machine's side is about this machine.
    """
    if isinstance(error, EnvsyncError):
        failure = error
    else:
        failure = failure_here(error) or EnvsyncError(error_text(error))
    failure.server = failure.server or server
    return failure


def _paths(error: OSError) -> Tuple[str, ...]:
    """Return the error's path; none if it is relative to an open directory, which helps nobody."""
    name = error.filename
    return (os.fsdecode(name),) if isinstance(name, (str, bytes)) and os.path.isabs(name) else ()
