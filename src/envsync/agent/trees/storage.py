"""Translates system errors of disks (full, failing, read-only) into errors for people."""

from __future__ import annotations

import errno
import os
from typing import List, NamedTuple, Optional, Sequence, Type, Union

from envsync.agent.server.filesystem import Space
from envsync.agent.trees.file_hash import why_unreadable
from envsync.errors import EnvsyncError, Hint, NoSpace, StorageFailed

_BROKEN = frozenset(
    {
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
        errno.EUCLEAN,  # what the filesystem has there makes no sense
        errno.EBADMSG,  # ... or has another checksum
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
_MEND = "look at `dmesg` there and see to the disk"
_REMOUNT = "see in `dmesg` there why, and mount it read-write again"


_PATHS_MAX = 10


SPARE_BYTES, SPARE_INODES = 64 << 20, 1000
"""What a push leaves free."""

_SPARE = Space(SPARE_BYTES, SPARE_INODES)
_SPARE_OF_ROLLBACK = Space(8 << 20, 100)
"""Enough for its records: where a disk is nearly full, one wants to go back all the same."""


def require_room(
    free: Space, new_bytes: int, new_inodes: int, *, is_rollback: bool = False
) -> None:
    """Raise `NoSpace` where a push or rollback that makes so much would leave too little free."""
    what, spare = ("rollback", _SPARE_OF_ROLLBACK) if is_rollback else ("push", _SPARE)
    needed = new_bytes + spare.free_bytes
    if needed > free.free_bytes:
        raise NoSpace(
            "the %s needs %s, %s of it to spare, and %s are free"
            % (what, *map(_megabytes, (needed, spare.free_bytes, free.free_bytes))),
            hint=Hint(_FREE),
        )
    spare_inodes = spare.free_inodes or 0
    inodes = new_inodes + spare_inodes
    if free.free_inodes is not None and inodes > free.free_inodes:
        raise NoSpace(
            "the %s needs %d inodes, %d of them to spare, and %d are free"
            % (what, inodes, spare_inodes, free.free_inodes),
            hint=Hint(_FREE),
        )


def _megabytes(size_bytes: int) -> str:
    return "%.0f MB" % (size_bytes / 1e6)


class Trouble(NamedTuple):
    """What a disk has, in a few words; and what has to be done before the next push.

    `cure` is the template of a hint.
    """

    kind: Type[EnvsyncError]
    reason: str
    cure: str


def trouble(error: OSError) -> Optional[Trouble]:
    """The disk's trouble behind a system error; None where the error is another."""
    if error.errno == errno.ENOSPC:
        return Trouble(NoSpace, "its disk is full", _FREE)
    if error.errno == errno.EDQUOT:
        return Trouble(NoSpace, "its quota is used up", _FREE)
    if error.errno == errno.EROFS:
        return Trouble(StorageFailed, "its filesystem is read-only", _REMOUNT)
    if error.errno in _BROKEN:
        return Trouble(StorageFailed, "its disk fails (%s)" % os.strerror(error.errno), _MEND)
    return None


def is_of_entry(error: OSError) -> bool:
    """Whether it comes of an entry that is another's, or of another kind than it was: not of a
    disk, nor of a machine without memory or descriptors."""
    return error.errno in _OF_ENTRY


def words(error: Union[EnvsyncError, OSError]) -> str:
    """`/w/envs/e/lib: Permission denied`, as a person reads it."""
    if not isinstance(error, OSError):
        return error.message
    name = error.filename
    where = "%s: " % os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
    return where + (error.strerror or str(error))


def storage_failure(error: OSError) -> Optional[EnvsyncError]:
    """The error to tell a person, where nothing was switched; None where it is no disk's."""
    found = trouble(error)
    if found is None:
        return None
    return found.kind(
        "%s; the live environment is untouched" % found.reason,
        hint=Hint("%s, then try again" % found.cure),
        details=_paths(error),
    )


def failure_after_switch(error: OSError) -> Optional[EnvsyncError]:
    """As `storage_failure`, where the other version stands there already, and only its record is
    missing."""
    found = trouble(error)
    if found is None:
        return None
    return found.kind(
        "the new version stands there, but could not be recorded: %s" % found.reason,
        hint=Hint("%s, then push again: that completes it" % found.cure),
        details=_paths(error),
    )


def require_good_disk(top_fd: int, unreadable: Sequence[bytes]) -> None:
    """Raise `StorageFailed` where a disk's trouble is why some of these files cannot be read."""
    bad: List[str] = []
    found: Optional[Trouble] = None
    for path in unreadable[:_PATHS_MAX]:
        error = why_unreadable(top_fd, path)
        reason = None if error is None else trouble(error)
        if reason is not None:
            found = found or reason
            bad.append(os.fsdecode(path))
    if found is not None:
        raise StorageFailed(
            "files cannot be read: %s" % found.reason,
            hint=Hint("%s, then try again" % found.cure),
            details=bad,
        )


def _paths(error: OSError) -> tuple[str, ...]:
    """Where it happened; a name below some open directory would tell nobody anything."""
    name = error.filename
    return (os.fsdecode(name),) if isinstance(name, (str, bytes)) and os.path.isabs(name) else ()
