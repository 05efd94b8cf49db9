"""A tree made ready for the next push to build on, before there is one.

Once a target has as many earlier versions as `keep` says, each push is built on the one that
it will drop: only what changed is written. Until then the first push after another would copy
the whole environment before it could change anything. That copy is made here, while nothing
waits for it, and takes the room of the earlier version that there will be.
"""

from __future__ import annotations

import os
from typing import Callable, Optional

from envsync.agent.filesystem import Space, space
from envsync.agent.records import Record
from envsync.agent.removal import remove_tree
from envsync.agent.sharing import hand_down
from envsync.agent.staging import Holding, Staging
from envsync.agent.staging_note import find_staging, forget_staging
from envsync.agent.target import Target
from envsync.errors import EnvsyncError, VerificationFailed
from envsync.tree.sharing import SETGID
from envsync.tree.steps import Plan

Progress = Callable[[int], None]
_TIMES_FREE = 2
"""So often has what is made to fit: as much again stays free for others."""


def wants_spare(target: Target, live: Optional[Record], keep: int) -> bool:
    """Whether the next push would have nothing to build on, and one may be made for it.

    `live` is the record of what stands at the name.
    """
    if live is None or target.is_base:
        return False
    earlier = [r for r in target.records.all() if not r.kept_because and r.inode != live.inode]
    is_building = find_staging(target.places) is not None
    return len(earlier) < keep and not is_building


def make_spare(target: Target, keep: int, progress: Optional[Progress] = None) -> bool:
    """Copy what stands there, after `Target.inspect(lock=True)`; whether that was done.

    Not where the next push has something to build on, where what stands there is not what was
    published, or where the disk has no room for it and as much again. What was begun and came
    to nothing is removed.
    """
    target.require_lock()
    live = target.live
    record = target.current(live)
    if live is None or record is None or record.revision != live.revision:
        return False
    if not wants_spare(target, record, keep):
        return False
    staging = Staging(target.places, target.trees, target.records)
    wanted = live.manifest()
    standing = Holding(target.places.standing(), wanted, "")
    if not _fits(staging.plan(wanted, [standing]), space(target.places.state)):
        return False
    staging.choose(record, keep)
    shared = os.stat(standing.path)
    if shared.st_mode & SETGID:
        # Else the next push would have to give every file to the group, and then hash it anew.
        hand_down(staging.writer.top_fd, shared.st_gid)
    try:
        if staging.bring_forward([standing], progress):
            raise VerificationFailed("what stands there changed while it was copied")
        staging.complete(wanted, None, ())
        staging.verify(wanted, progress)
        staging.set_aside()
    except (EnvsyncError, OSError):
        _discard(staging, target)
        raise
    finally:
        staging.close()
    return True


def _fits(work: Plan, free: Space) -> bool:
    bytes_needed, inodes_needed = _TIMES_FREE * work.new_bytes(), _TIMES_FREE * work.new_inodes()
    has_inodes = free.free_inodes is None or inodes_needed <= free.free_inodes
    return has_inodes and bytes_needed <= free.free_bytes


def _discard(staging: Staging, target: Target) -> None:
    remove_tree(staging.path)
    forget_staging(target.places)
