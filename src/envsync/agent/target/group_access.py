"""Opens what a push builds, and what envsync keeps of it, to a group, or closes both."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.places import members, sharing
from envsync.agent.staging.staging import Staging
from envsync.agent.target.target import Target
from envsync.tree.manifest import Manifest
from envsync.tree.sharing import WRITE, Share, shared


class GroupAccess(NamedTuple):
    """The group that new versions are for, and its members' `access` (`READ` or `WRITE`).

    `gid` is None for no group. `is_new` says that the live version, if any, is not shared like
    that.
    """

    gid: Optional[int] = None
    access: str = ""
    is_new: bool = False

    def applied(self, wanted: Manifest) -> Manifest:
        """Return the manifest with the modes that the group needs."""
        return wanted if self.gid is None else shared(wanted, self.access)

    def hand_down(self, staging: Staging) -> None:
        """Let everything created in the staging tree belong to the group."""
        if self.gid is not None:
            sharing.hand_down(staging.writer.top_fd, self.gid, self.access)

    def regroup(self, staging: Staging) -> None:
        """Give what an earlier version left in the staging tree to the group, or take it back."""
        if self.gid is not None:
            staging.regroup(self.gid, self.access)
        else:
            staging.leave_group()


NO_GROUP = GroupAccess()


def for_group(target: Target, share: Share) -> Tuple[GroupAccess, Tuple[str, ...]]:
    """Return the access of the group in `share`, and warnings.

    With the lock held, the state is opened to a group that may write, else closed to all groups.
    Raises `PreflightRefused` if this user cannot share the environment with that group.
    """
    layout = target.layout
    gid = sharing.group_number(share)
    members.require_same_group(layout, gid)
    if target.lock.is_held:
        members.open_state(layout, gid, share.access)
    is_shared = sharing.is_shared(layout.standing(), gid, share.access)
    warnings = sharing.closed_parents(layout, gid)
    if share.access == WRITE:
        warnings += members.closed_to_publishers(layout, gid)
    return GroupAccess(gid, share.access, is_new=not is_shared), warnings


def for_no_group(target: Target) -> Tuple[GroupAccess, Tuple[str, ...]]:
    """Return the access of no group, and warnings; with the lock held, close the state to groups.

    The warnings name what stays another user's.
    """
    layout = target.layout
    was_shared = members.was_shared(layout, target.last_look.record)
    warnings = members.of_others(layout)
    if target.lock.is_held:
        members.close_state(layout)
    return GroupAccess(is_new=was_shared), warnings
