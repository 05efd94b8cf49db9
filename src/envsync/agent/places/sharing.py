"""Gives an environment's tree to a group of users, and finds what the group cannot use yet."""

from __future__ import annotations

import grp
import os
import shlex
import stat
from typing import Iterator, List, Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.places.members import how_to_join
from envsync.agent.server import posix_acl
from envsync.agent.server.accounts import is_in_group, is_own, user_name
from envsync.agent.trees.directory_read import walk
from envsync.agent.trees.set_id import mode_for
from envsync.errors import PreflightRefused
from envsync.tree.local import LocalPaths
from envsync.tree.sharing import READ, WRITE, Share, group_bits, shared_mode


def group_number(share: Share) -> int:
    """Return the group's id. Raises `PreflightRefused` if it is missing or lacks this user."""
    try:
        group = grp.getgrnam(share.group)
    except KeyError:
        raise PreflightRefused(
            f"there is no group {share.group} there",
            hint=how_to_join(share.group, f"sudo groupadd {share.group} && "),
        ) from None
    if os.geteuid() != 0 and not is_in_group(group.gr_gid):
        raise PreflightRefused(
            f"{user_name()} is not in the group {share.group} there",
            hint=how_to_join(share.group),
        )
    return group.gr_gid


def closed_parents(layout: Layout, gid: int) -> Tuple[str, ...]:
    """Return warnings of directories above that are closed to the group, with what opens each."""
    warnings: List[str] = []
    path = os.path.dirname(layout.live)
    while path != b"/":
        status = os.stat(path)
        is_open = status.st_mode & 0o001 or (status.st_gid == gid and status.st_mode & 0o010)
        if not is_open:
            shown = shlex.quote(os.fsdecode(path))
            sudo = "" if is_own(status) else "sudo "
            warnings.append(
                f"members of the group have no access below {os.fsdecode(path)} there: "
                f"{sudo}chmod o+x {shown}"
            )
        path = os.path.dirname(path)
    return tuple(warnings)


def is_shared(top: bytes, gid: int, access: str) -> bool:
    """Return whether a tree's top directory is shared with the group, which has this access."""
    try:
        status = os.stat(top)
    except OSError:
        return False
    may_write = bool(status.st_mode & stat.S_IWGRP)
    is_handed_down = bool(status.st_mode & stat.S_ISGID)
    has_mode = is_handed_down and status.st_gid == gid and may_write == (access == WRITE)
    return has_mode and posix_acl.grants(top, group_bits(access))


def hand_down(top_fd: int, gid: int, access: str) -> None:
    """Let everything created in a staging tree belong to the group, which has this access."""
    os.fchown(top_fd, -1, gid)
    posix_acl.grant(top_fd, group_bits(access))
    os.fchmod(top_fd, 0o700 | stat.S_ISGID)


def regroup(top: bytes, gid: int, access: str = "") -> Iterator[bytes]:
    """Give the group what has another group below the top; yield the paths.

    For its `access`, it also gets what an inherited ACL withholds.
    """
    has_acl = bool(access) and posix_acl.has_acl(top)
    for path, status in walk(top):
        is_listed = has_acl and not stat.S_ISLNK(status.st_mode)
        if is_listed and posix_acl.grant(os.path.join(top, path), group_bits(access)):
            yield path
        if status.st_gid != gid:
            full = os.path.join(top, path)
            os.chown(full, -1, gid, follow_symlinks=False)
            # Changing a file's group clears its special bits.
            if stat.S_ISDIR(status.st_mode):
                os.chmod(full, stat.S_IMODE(status.st_mode))
            elif not stat.S_ISLNK(status.st_mode):
                os.chmod(full, mode_for(os.geteuid(), status))
            yield path


def unshared(top: bytes, local: LocalPaths) -> Tuple[bytes, ...]:
    """Return paths without the group or mode that the top directory calls for; none if unshared."""
    status = os.stat(top)
    if not status.st_mode & stat.S_ISGID:
        return ()
    access = WRITE if status.st_mode & stat.S_IWGRP else READ
    paths = []
    for path, entry in walk(top):
        is_left = b"__pycache__" in path.split(b"/") or local.matches(path)
        if stat.S_ISLNK(entry.st_mode) or is_left:
            continue
        mode = stat.S_IMODE(entry.st_mode)
        wanted = shared_mode(mode, access, is_directory=stat.S_ISDIR(entry.st_mode))
        if entry.st_gid != status.st_gid or wanted != mode:
            paths.append(path)
    return tuple(sorted(paths))
