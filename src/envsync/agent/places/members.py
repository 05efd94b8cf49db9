"""Publishing by several users of a group: what the group may do, and what stays the owner's.

Each version belongs to the user who published it. Its top directory is writable for the group, so
any member can move it and versions of several users can be switched; but nothing of another user's
version is ever built on, given other modes or removed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from typing import Iterator, Optional, Tuple

from envsync.agent.places.layout import SEARCH, Layout
from envsync.agent.places.records import Record
from envsync.agent.places.state_files import group_writes
from envsync.agent.server import posix_acl
from envsync.agent.server.accounts import group_name, is_in_group, is_own, may_change, user_name
from envsync.agent.server.filesystem import mounted_within
from envsync.agent.server.reading import READ_FLAGS, closing_fd
from envsync.agent.trees.directory_read import opened_directory, walk
from envsync.agent.wire.messages import FOREIGN_OWNER, GROUP_OWNED, SHARED, Finding
from envsync.errors import PreflightRefused
from envsync.tree.sharing import WRITE

_USE = os.W_OK | os.X_OK
_OPEN, _CLOSED = (0o660, 0o2770), (0o600, 0o700)
"""The modes of the state's files and directories: open to the group, closed to it."""


def is_foreign(path: bytes) -> bool:
    """Return whether a path belongs to another user; if this user is root, none does."""
    return not may_change(os.lstat(path))


def owner_finding(layout: Layout) -> Optional[Finding]:
    """Return a finding if the live version is another user's, which forbids a push unless shared.

    Raises `PreflightRefused` if it is shared for writing with a group, but this user is not in it,
    or cannot switch versions or reach what envsync keeps.
    """
    status = os.stat(layout.standing())
    if is_own(status):
        return None
    owner = user_name(status.st_uid)
    message = f"{os.fsdecode(layout.live)} belongs to {owner}, not to {user_name()}"
    if not (group_writes(status) and os.access(layout.standing(), _USE)):
        if is_open(layout):
            require_member(status.st_gid, message)
        return Finding(FOREIGN_OWNER, message, blocking=True)
    _require_open(layout, owner)
    return Finding(GROUP_OWNED, message)


def require_member(gid: int, message: str) -> None:
    """Raise `PreflightRefused` unless this user is in the group to which something is open.

    `message` says that this user may not use it, and ends with the user's name.
    """
    if not is_in_group(gid):
        group = group_name(gid)
        raise PreflightRefused(
            f"{message}, who is not in its group {group}", hint=how_to_join(group)
        )


def how_to_join(group: str, first: str = "") -> str:
    """Return the hint with the command that adds this user to a group, after the `first`."""
    return f"an administrator there has to run: {first}sudo usermod -a -G {group} {user_name()}"


def _require_open(layout: Layout, owner: str) -> None:
    parent = os.path.dirname(layout.live)
    status = os.stat(parent)
    if not os.access(parent, _USE) or (status.st_mode & stat.S_ISVTX and is_foreign(parent)):
        opening = _opening(parent, os.stat(layout.standing()).st_gid)
        raise PreflightRefused(
            f"{user_name()} may not switch versions in {os.fsdecode(parent)} there",
            hint=f"{user_name(status.st_uid)} or an administrator there has to run: {opening}",
        )
    if _closed(layout, os.R_OK | _USE):
        raise PreflightRefused(
            f"envsync's files for {layout.name} there are accessible only to {owner}",
            hint=f"have {owner} push it once with `share: {{..., mode: write}}`, which opens them",
        )


def _closed(layout: Layout, mode: int) -> bytes:
    """Return envsync's own directory, or file of a record, that is closed to this user; empty if
    none is.

    `mode` is the access to the state and its records that is needed. A missing directory is not
    closed: this user can make it. The one above comes first, because in a closed one, nothing is
    visible.
    """
    above = os.path.dirname(layout.state)
    needed = (above, os.X_OK), (layout.state, mode), (layout.generations, mode)
    closed = (path for path, mode in needed if os.path.isdir(path) and not os.access(path, mode))
    return next(closed, b"") or next(_closed_files(layout.generations), b"")


def _closed_files(directory: bytes) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.access(path, os.R_OK):
                yield path


def closed_to_sweeps(layout: Layout) -> bytes:
    """Return another user's directory of envsync's that this user may not clean up; empty if none
    is.
    """
    closed = _closed(layout, os.R_OK | _USE)
    return closed if closed and is_foreign(closed) else b""


def closed_records(layout: Layout) -> Optional[PreflightRefused]:
    """Return the error to raise if this user may not read what envsync keeps; None if they may."""
    closed = _closed(layout, os.R_OK | os.X_OK)
    if not closed:
        return None
    owner = user_name(os.stat(closed).st_uid)
    return PreflightRefused(
        f"envsync's files for {layout.name} there belong to {owner} "
        f"and are closed to {user_name()}",
        hint=f"ask {owner}, or have {owner} push it with `share: {{group: ..., mode: write}}`, "
        "which opens them to that group",
    )


def require_open_records(layout: Layout) -> None:
    """Raise `PreflightRefused` if the records cannot be read, which is not the same as none."""
    closed = closed_records(layout)
    if closed is not None:
        raise closed


def _opening(directory: bytes, gid: int, sudo: str = "") -> str:
    path = shlex.quote(os.fsdecode(directory))
    opening = f"{sudo}chgrp {group_name(gid)} {path} && {sudo}chmod g+rwxs,-t {path}"
    is_enough = posix_acl.grants(directory, 7)
    return opening if is_enough else f"{opening} && {sudo}setfacl -m g::rwx {path}"


def closed_to_publishers(layout: Layout, gid: int) -> Tuple[str, ...]:
    """Return a warning, with the fix, if other members of the group cannot publish."""
    parent = os.path.dirname(layout.live)
    status = os.stat(parent)
    is_open = group_writes(status) and status.st_gid == gid and not status.st_mode & stat.S_ISVTX
    if is_open and posix_acl.grants(parent, 7):
        return ()
    sudo = "" if is_own(status) else "sudo "
    return (
        f"no other member of the group can publish in {os.fsdecode(parent)} there: "
        + _opening(parent, gid, sudo),
    )


def require_same_group(layout: Layout, gid: int) -> None:
    """Raise `PreflightRefused` if the live version is another user's and has another group."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(layout.standing())
        if not is_own(status) and status.st_gid != gid:
            owner, group = user_name(status.st_uid), group_name(status.st_gid)
            raise PreflightRefused(
                f"{owner} shares it there with the group {group}",
                hint=f"set that group in `share:`, or have {owner} push it with the other group",
            )


def open_state(layout: Layout, gid: int, access: str) -> None:
    """Let the group publish as well if its access is `WRITE`; otherwise only the owner.

    Only what belongs to this user is changed, and everything belongs to root. The push lock must be
    held.
    """
    _give_all(layout, gid, *(_OPEN if access == WRITE else _CLOSED))


def close_state(layout: Layout) -> None:
    """Close the state to any group, because the environment is shared with none any more."""
    if is_open(layout):
        _give_all(layout, -1, *_CLOSED)


def is_open(layout: Layout) -> bool:
    """Return whether envsync let a group write what it keeps of the environment."""
    with contextlib.suppress(OSError):  # there is none, or it is closed to this user
        return group_writes(os.stat(layout.state))
    return False


def was_shared(layout: Layout, record: Optional[Record]) -> bool:
    """Return whether the live version is this user's and envsync shared it with a group.

    `record` is that version's. If it does not tell, the state does: modes of the version alone may
    have been set by hand.
    """
    if record is None or not (is_open(layout) if record.share is None else record.share):
        return False
    with contextlib.suppress(FileNotFoundError):  # without the lock, it may have been removed
        status = os.stat(layout.standing())
        return may_change(status) and bool(status.st_mode & stat.S_ISGID)
    return False


def shared_finding(layout: Layout, record: Optional[Record]) -> Optional[Finding]:
    """Return a finding if envsync shared the live version, or the state, with a group."""
    if not (is_open(layout) or was_shared(layout, record)):
        return None
    return Finding(SHARED, f"{os.fsdecode(layout.live)} is shared with a group there")


def of_others(layout: Layout) -> Tuple[str, ...]:
    """Return warnings of what stays another user's once the environment is no longer shared."""
    if not is_open(layout):
        return ()
    if is_foreign(layout.state):
        state, owner = os.fsdecode(layout.state), user_name(os.stat(layout.state).st_uid)
        return (f"{state} stays open to its group: only its owner, {owner}, can close it",)
    owners = [os.lstat(path).st_uid for path in layout.other_trees() if is_foreign(path)]
    return tuple(
        f"versions of {owner} are kept there that {owner} can no longer access: ask an "
        "administrator to remove them, or share it again"
        for owner in map(user_name, sorted(set(owners)))
    )


def _give_all(layout: Layout, gid: int, file_mode: int, mode: int) -> None:
    layout.require_own_directories()
    search = 0 if layout.linked_tree() is None else SEARCH
    directories = (layout.generations, layout.trees, layout.state)
    for directory in (layout.generations, layout.state):
        with layout.opened(directory) as unread_fd, opened_directory(b"", unread_fd) as fd:
            for name in map(os.fsencode, sorted(os.listdir(fd))):
                if os.path.join(directory, name) not in directories:
                    _give(name, fd, gid, file_mode, mode)
    for directory in directories:
        with layout.opened(os.path.dirname(directory)) as fd:
            _give(os.path.basename(directory), fd, gid, file_mode, mode | search)


def _give(name: bytes, directory_fd: int, gid: int, file_mode: int, directory_mode: int) -> None:
    """Change group and mode of an entry that is this user's; with a `gid` of -1 only the mode.

    This is done through a descriptor: in a group's directory, a name may become something else at
    any time. Links, special files and files with several names stay as they are.
    """
    try:
        fd = os.open(name, READ_FLAGS, dir_fd=directory_fd)
    except OSError:
        return
    with closing_fd(fd):
        status = os.fstat(fd)
        is_directory = stat.S_ISDIR(status.st_mode)
        is_plain = is_directory or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
        if not may_change(status) or not is_plain:
            return
        # Set the group before the mode, so that nobody else gets access in between.
        if gid not in (-1, status.st_gid):
            os.fchown(fd, -1, gid)
        mode = directory_mode if is_directory else file_mode
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            os.fchmod(fd, mode)
        posix_acl.grant(fd, mode >> 3 & 7)


def may_build_on(tree: bytes) -> bool:
    """Return whether all of a tree is this user's, because only owners can set modes and times.

    False also if something is mounted in it, which belongs to no version at all.
    """
    if is_foreign(tree) or mounted_within(tree):
        return False
    return next(_of_others(tree), None) is None


def why_unremovable(tree: bytes, kept_because: str = "") -> str:
    """Return why this user cannot remove the whole tree; empty if they can.

    `kept_because` is as in its record.
    """
    if is_foreign(tree):
        owner = user_name(os.lstat(tree).st_uid)
        option = " --drifted" if kept_because else ""
        return f"it belongs to {owner}, who can remove it with `envsync gc{option}`"
    mounts = mounted_within(tree)
    if mounts:
        return f"something is mounted in it, at {os.fsdecode(mounts[0])}: unmount it there"
    for path, status in _of_others(tree):
        full = os.path.join(tree, path)
        if stat.S_ISDIR(status.st_mode) and not os.access(full, _USE):
            return f"{os.fsdecode(path)} in it belongs to {user_name(status.st_uid)}"
    return ""


def _of_others(tree: bytes) -> Iterator[Tuple[bytes, os.stat_result]]:
    """Yield what other users made in a version; nothing if its top is not writable for a group."""
    if os.geteuid() == 0 or not group_writes(os.lstat(tree)):
        return
    for path, status in walk(tree):
        if not is_own(status):
            yield path, status
