"""Makes a spare tree ahead of time, for the next push to build on.

Once a target has as many earlier versions as `keep` says, each push builds on the one that it will
drop: only what changed is written. Until then, the next push would have to copy the whole
environment before it could change anything. That copy is made here, while nothing waits for it; it
takes the room of the earlier version that there will be.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Optional

from envsync.agent.places.kept_versions import ordinary_versions
from envsync.agent.places.locks import PushLock, writers_kept_out
from envsync.agent.places.sharing import hand_down
from envsync.agent.places.staging_note import find_staging, forget_staging
from envsync.agent.server.filesystem import Space, space
from envsync.agent.server.progress import Progress
from envsync.agent.staging.build_plan import OWN, BuildPlan, Holding
from envsync.agent.staging.choice import NOTHING
from envsync.agent.staging.staging import Staging
from envsync.agent.target.target import Target
from envsync.agent.trees.removal import remove_tree
from envsync.errors import EnvsyncError, Locked, PreflightRefused, VerificationFailed
from envsync.tree.manifest import EMPTY
from envsync.tree.plan import plan
from envsync.tree.sharing import READ, WRITE
from envsync.tree.steps import Plan

_TIMES_FREE = 2
"""How many times its size a spare tree must find free, so that as much again stays for others."""
_LOOK_SECONDS = 0.05
"""How often to look whether somebody waits for the lock."""


class _Wanted(Exception):
    """Raised when somebody waits for the lock."""


def wants_spare(target: Target) -> bool:
    """Return whether the next push would have nothing to build on, and a tree may be made for it.

    This takes only the records and the note on staging: no lock, and no look at a tree.
    """
    live = target.records.at(target.layout.inode() or 0)
    if live is None or target.is_base:
        return False
    earlier = ordinary_versions(target.records.all(), live.inode)
    is_building = find_staging(target.layout) is not None
    return len(earlier) < target.keep and not is_building


def make_spare(target: Target, progress: Optional[Progress] = None) -> bool:
    """Copy the live version, with the lock held meanwhile; return whether that was done.

    It is not done if the next push has something to build on, if the live version is not what was
    published, or if the disk lacks room for it and as much again. After a failure, the copy is
    removed. Raises `PreflightRefused` if a finding forbids pushes, and `Locked` if somebody has the
    lock, or wants it; then the lock is given up, and the copy left like an interrupted push's.
    """
    if not wants_spare(target):
        return False
    target.lock.yields = True
    progress = _until_wanted(target.lock, progress or (lambda _: None))
    try:
        _require_at_rest(target, progress)
        return _make(target, progress)
    except _Wanted:
        raise Locked("it was stopped: another command needs the lock there") from None
    finally:
        target.lock.release()


def _until_wanted(lock: PushLock, progress: Progress) -> Progress:
    """Return `progress`, made to raise `_Wanted` once somebody waits for the lock."""
    looked, is_wanted = float("-inf"), False

    def going_on(size_bytes: int) -> None:
        nonlocal looked, is_wanted
        progress(size_bytes)
        now = time.monotonic()
        if not is_wanted and now - looked >= _LOOK_SECONDS:
            looked, is_wanted = now, lock.is_wanted()
        if is_wanted:
            raise _Wanted

    return going_on


def _require_at_rest(target: Target, progress: Progress) -> None:
    findings = target.inspect(lock=True, progress=progress).findings
    blocking = [finding.message for finding in findings if finding.blocking]
    if blocking:
        raise PreflightRefused(blocking[0], details=blocking[1:])


def _make(target: Target, progress: Progress) -> bool:
    live = target.live
    if live is None or not target.last_look.is_as_published:
        return False
    if not wants_spare(target):
        return False  # somebody has pushed meanwhile
    wanted = live.manifest()
    standing = target.layout.standing()
    work = plan(wanted, EMPTY, [wanted])
    if not _fits(work, space(target.layout.state)):
        return False
    with writers_kept_out(target.layout):
        staging = Staging(target.environment, NOTHING)
    try:
        shared = os.stat(standing)
        if shared.st_mode & stat.S_ISGID:
            # Otherwise the next push would have to give every file to the group, and then hash it
            # again.
            what = WRITE if shared.st_mode & stat.S_IWGRP else READ
            hand_down(staging.writer.top_fd, shared.st_gid, what)
        build = BuildPlan(NOTHING, work, [Holding(standing, wanted, OWN)])
        if staging.bring_forward(build, progress):
            raise VerificationFailed("the live version changed while it was copied")
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
    forget_staging(target.layout)
