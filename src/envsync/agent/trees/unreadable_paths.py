"""Why paths cannot be read: a failing disk, or no access; and how to give this user access."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import Dict, List, Optional, Sequence

from envsync.agent.server.accounts import is_in_group, is_own, user_name
from envsync.agent.server.disk_failures import DiskTrouble, disk_trouble
from envsync.agent.server.reading import opened_file
from envsync.agent.trees.file_hash import hash_open_file
from envsync.errors import Hint, SourceRefused, StorageFailed

_PATHS_MAX = 10
_OWNERS_MAX = 4
_OPEN = "chmod -R {who}+rX {path}"
_OPEN_HIS = "find {path} -type f -user {owner} ! -perm -{who}+r -exec chmod {who}+r {{}} +"
"""Opens nothing but closed files of one user, who may not change those of others."""


def require_readable(top_fd: int, unreadable: Sequence[bytes]) -> None:
    """Raise `StorageFailed` if a disk fails, `SourceRefused` if the user may not read a file."""
    require_good_disk(top_fd, unreadable)
    if unreadable:
        more = len(unreadable) - _PATHS_MAX
        paths = [os.fsdecode(path) for path in unreadable[:_PATHS_MAX]]
        raise SourceRefused(
            "some files are not readable",
            details=[*paths, f"and {more:,} more"] if more > 0 else paths,
            hint=how_to_read_files(top_fd, unreadable),
        )


def require_good_disk(top_fd: int, unreadable: Sequence[bytes]) -> None:
    """Raise `StorageFailed` if a disk fails to read one of these files; the first 10 are tried."""
    bad: List[str] = []
    first: Optional[DiskTrouble] = None
    for path in unreadable[:_PATHS_MAX]:
        trouble = _trouble_in_reading(top_fd, path)
        if trouble is not None:
            first = first or trouble
            bad.append(os.fsdecode(path))
    if first is not None:
        raise StorageFailed(
            f"files cannot be read: {first.reason}",
            hint=Hint(f"{first.cure}[[, then try again]]"),
            details=bad,
        )


def _trouble_in_reading(top_fd: int, path: bytes) -> Optional[DiskTrouble]:
    """Return the disk's trouble when a file is read (now), or None."""
    try:
        with opened_file(path, top_fd) as fd:
            hash_open_file(fd)
    except OSError as error:
        return disk_trouble(error)
    return None


def how_to_read_files(top_fd: int, paths: Sequence[bytes]) -> str:
    """Return a hint for unreadable files below the open directory.

    For instance, root's Python leaves compiled files whose mode this user cannot change.
    """
    if len(paths) == 1:
        return _how_to_read(top_fd, paths[0], paths[0], "it belongs", _OPEN)
    of_owners: Dict[Optional[int], bytes] = {}
    for path in paths:
        of_owners.setdefault(_owner(top_fd, path), path)
    belong = "they belong" if len(of_owners) == 1 else "some belong"
    hints = [_how_to_read(top_fd, path, b"", belong, _OPEN_HIS) for path in of_owners.values()]
    return "; ".join(hints[:_OWNERS_MAX])


def _owner(top_fd: int, path: bytes) -> Optional[int]:
    with contextlib.suppress(OSError):  # it is gone
        return os.stat(path, dir_fd=top_fd, follow_symlinks=False).st_uid
    return None


def how_to_read_directory(top_fd: int, path: bytes) -> str:
    """Return a hint for an unreadable directory, such as one made by another member."""
    return _how_to_read(top_fd, path, path, "it belongs", _OPEN)


def _how_to_read(top_fd: int, path: bytes, below: bytes, belongs: str, command: str) -> str:
    """Return a hint with the `command` for what is `below`, run by the owner of `path`."""
    try:
        top = os.readlink(b"/proc/self/fd/%d" % top_fd)
        status = os.stat(path or b".", dir_fd=top_fd, follow_symlinks=False)
    except OSError:  # it is gone, or there is no /proc
        return "make it readable for this user"
    full = shlex.quote(os.fsdecode(os.path.join(top, below).rstrip(b"/")))
    if is_own(status):
        return _OPEN.format(who="u", path=full)
    who, effect = ("g", "") if is_in_group(status.st_gid) else ("a", " (which lets everybody read)")
    owner = user_name(status.st_uid)
    full_command = command.format(who=who, path=full, owner=shlex.quote(owner))
    return f"{belongs} to {owner}, who has to run there{effect}: {full_command}"
