"""Opens what a push builds, and what envsync keeps of it, to a group, or closes both."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.places import members, sharing
from envsync.agent.staging.staging import Staging
from envsync.agent.target.target import Target
from envsync.tree.manifest import Manifest
from envsync.tree.sharing import WRITE, Share, shared

Warnings = Tuple[str, ...]
"""What a person should know."""


class GroupAccess(NamedTuple):
    """The group that new versions are for, and what its members may do (`Share.mode`).

    `gid` is None for no group. `is_new` says that the live version is for another group, or that
    members may do something else with it.
    """

    gid: Optional[int] = None
    mode: str = ""
    is_new: bool = False

    def applied(self, wanted: Manifest) -> Manifest:
        """Return the manifest with the modes that the group needs."""
        return wanted if self.gid is None else shared(wanted, self.mode)

    def hand_down(self, staging: Staging) -> None:
        """Let everything created in the staging tree belong to the group."""
        if self.gid is not None:
            sharing.hand_down(staging.writer.top_fd, self.gid)

    def regroup(self, staging: Staging) -> None:
        """Give what an earlier version left in the staging tree to the group and to no other."""
        if self.gid is not None:
            staging.regroup(self.gid)
        else:
            staging.leave_group()


NO_GROUP = GroupAccess()


def for_group(target: Target, share: Share) -> Tuple[GroupAccess, Warnings]:
    """Return that group's access, and warnings; with the lock held, open what is kept to the group.

    Raises `PreflightRefused` if this user cannot share anything with it.
    """
    places = target.places
    gid = sharing.group_number(share)
    members.require_same_group(places, gid)
    if target.lock.is_held:
        members.open_state(places, gid, share.mode)
    is_so = sharing.is_shared(places.standing(), gid, share.mode)
    warnings = sharing.closed_parents(places, gid)
    if share.mode == WRITE:
        warnings += members.closed_to_publishers(places, gid)
    return GroupAccess(gid, share.mode, is_new=not is_so), warnings


def for_no_group(target: Target) -> Tuple[GroupAccess, Warnings]:
    """Return the access of no group; with the lock held, close what is kept to groups.

    The warnings name what only another user can close.
    """
    places = target.places
    was_shared = members.was_shared(places, target.current(target.live))
    warnings = members.of_others(places)
    if target.lock.is_held:
        members.close_state(places)
    return GroupAccess(is_new=was_shared), warnings
