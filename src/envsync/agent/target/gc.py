"""Frees disk space on a target, for `envsync gc`.

An environment is swept with its push lock held, so no push runs at the same time. A record is
forgotten before its tree is removed: after a crash at any point, the next sweep removes a tree
without a record. Nothing here changes a record: what must not be removed stays as it is.
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set

from envsync.agent.places.kept_versions import beyond_keep
from envsync.agent.places.locks import holder_at, under_way, writers_kept_out
from envsync.agent.places.members import (
    closed_to_sweeps,
    require_open_records,
    why_unremovable,
)
from envsync.agent.places.records import Record
from envsync.agent.places.staging_note import find_staging, forget_staging, note_path
from envsync.agent.places.version_removal import remove_version
from envsync.agent.server.accounts import user_name
from envsync.agent.server.filesystem import mount_of
from envsync.agent.server.processes import processes_below, processes_of_others
from envsync.agent.server.progress import Progress
from envsync.agent.staging import scratch_files
from envsync.agent.target.target import Target
from envsync.agent.trees.removal import measure, remove_tree
from envsync.agent.wire.messages import ProcessUse
from envsync.agent.wire.server_operations import SweepFacts
from envsync.errors import CheckFailed, EnvsyncError, Locked
from envsync.files.whole import TEMPORARY

NETWORK_AGE_SECONDS = 7 * 86400.0
"""How long a tree on a network filesystem stays after its last switch: processes on other machines,
which are not visible from this one, may use it."""

BEGINNING_SECONDS = 10.0
"""How long a process may take from its start until it has opened its program."""
_CLOCK_SECONDS = 0.02
"""How exactly the kernel dates a change of a directory."""

_TEMPORARY = os.fsencode(TEMPORARY)


class Rules(NamedTuple):
    """The rules of a sweep.

    `keep` is how many earlier versions stay; `drifted` allows the removal of those that were
    changed, and of what damaged records kept.
    """

    keep: int
    drifted: bool
    dry_run: bool
    now_seconds: float


def sweep(target: Target, rules: Rules, freed: Progress = lambda _: None) -> SweepFacts:
    """Free what one environment does not need.

    Nothing is freed while a push is under way, or if the environment is closed to this user.
    """
    sweeping = _Sweep(target, rules, freed)
    closed = closed_to_sweeps(target.layout)
    if closed:
        sweeping.stays.append(left_to_owner(closed))
        return sweeping.facts()
    if rules.dry_run:
        return _dry_run(target, sweeping)
    try:
        target.lock.acquire()
    except Locked as error:
        return sweeping.facts(error.message, target.lock.held_for())
    try:
        # The interrupted push reports its failed check; the previous version is live again.
        with contextlib.suppress(CheckFailed):
            target.recover()
        sweeping.run()
    finally:
        target.lock.release()
    return sweeping.facts()


def left_to_owner(directory: bytes) -> str:
    """Return the line for a directory in which only its owner can free anything."""
    owner = "its owner"
    with contextlib.suppress(OSError):
        owner = user_name(os.stat(directory).st_uid)
    return (
        f"everything in {os.fsdecode(directory)}, which is closed to {user_name()}: "
        f"let {owner} run `envsync gc` there"
    )


def _dry_run(target: Target, sweeping: _Sweep) -> SweepFacts:
    """Return what a sweep would do. (A real one would stop whoever makes a spare tree.)"""
    holder = holder_at(target.layout)
    if holder is not None and not holder.yields:
        return sweeping.facts(locked=under_way(target.layout, holder.who))
    if holder is not None:
        sweeping.making = holder.who
    target.recover_if_free()
    sweeping.run()
    return sweeping.facts()


_Removal = Callable[[bytes, int], None]


def _unlink(name: bytes, directory_fd: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory_fd)


class _Sweep:
    """A sweep of one environment. `run` needs the push lock, except for a dry run."""

    def __init__(self, target: Target, rules: Rules, freed: Progress) -> None:
        self._target = target
        self._rules = rules
        self._freed = freed
        self._live: Set[int] = set()
        self._trees: Dict[int, bytes] = {}
        self._generations: List[int] = []
        self._unfinished = 0
        self._size_bytes = 0
        self.stays: List[str] = []
        self._problems: List[str] = []
        self._resisting: Set[bytes] = set()
        self.making = ""
        """Who is making a tree for the next push; a dry run leaves that tree out."""

    def facts(self, locked: str = "", same_place_as: str = "") -> SweepFacts:
        return SweepFacts(
            self._target.name,
            tuple(self._generations),
            self._unfinished,
            self._size_bytes,
            tuple(self.stays),
            locked,
            tuple(self._problems),
            self.making,
            same_place_as,
        )

    def run(self) -> None:
        layout = self._target.layout
        # Without records, every version would be taken for an unfinished push.
        require_open_records(layout)
        inode = layout.inode()
        self._live = set() if inode is None else {inode}
        self._trees = layout.trees_by_inode()
        survey = self._target.records.survey()
        if survey.damaged and not self._rules.drifted:
            self.stays.append("everything: a record is damaged (--drifted removes what it kept)")
            return
        for path in survey.damaged:
            self._remove_file(path, remove_tree)  # a directory may be in its place
        self._drop_generations(survey.records)
        if survey.misses_kept(self._live | set(self._trees)) and not self._rules.drifted:
            self.stays.append(
                "versions without a record: one may have been changed by hand, then restored "
                "from a backup (--drifted removes them)"
            )
            return
        self._drop_treeless(survey.records)
        self._drop_unfinished(survey.records)
        for path in self._target.records.orphans() + _temporary(layout.state):
            self._remove_file(path)

    def _drop_generations(self, records: Sequence[Record]) -> None:
        standing = [r for r in records if r.inode in self._trees and r.inode not in self._live]
        ordinary = [record for record in standing if not record.kept_because]
        # Of an environment that was removed, no version is kept to go back to.
        is_gone = not self._live and self._target.records.history.was_removed()
        keep = 0 if is_gone else self._rules.keep
        live = next((record for record in records if record.inode in self._live), None)
        surplus = beyond_keep(ordinary, keep, live)
        surplus += [record for record in standing if record.kept_because]
        using = processes_below([self._trees[record.inode] for record in surplus])
        layout = self._target.layout
        others = processes_of_others((layout.path, layout.live)) if surplus else ()
        for record in surplus:
            tree = self._trees[record.inode]
            reason = why_unremovable(tree, record.kept_because) or self._changed(record, tree)
            by_others = [use for use, began in others if _was_live(record, tree, began)]
            reason = reason or _use(using[tree]) or _use(by_others) or self._too_young(tree)
            if reason:
                self.stays.append(f"generation {record.number}: {reason}")
            elif self._remove_tree(tree, record):
                self._generations.append(record.number)

    def _changed(self, record: Record, tree: bytes) -> str:
        """Return why no clean-up may remove a version, or ""; with `drifted` any may be removed."""
        if self._rules.drifted:
            return ""
        if record.kept_because:
            return f"{record.kept_because} (--drifted removes it)"
        try:
            if self._target.environment.is_as_published(tree, record):
                return ""
        except (EnvsyncError, OSError) as error:
            return f"it cannot be read ({error})"
        return "it was changed after it was replaced (--drifted removes it)"

    def _too_young(self, tree: bytes) -> str:
        """Return why a tree must stay for now, or "". Its last switch gave its top a new ctime."""
        mount = mount_of(tree)
        age_seconds = self._rules.now_seconds - os.lstat(tree).st_ctime
        if not mount.is_network or age_seconds > NETWORK_AGE_SECONDS:
            return ""
        return f"it is on {mount.kind} and younger than 7 days: other machines may use it"

    def _drop_treeless(self, records: Sequence[Record]) -> None:
        """Forget records whose trees are gone, but only if the live version has a record.

        After a restore from a backup, no inode is what a record says, and it could be any of them.
        """
        if any(record.inode in self._live for record in records) and not self._rules.dry_run:
            for record in records:
                if record.inode not in self._live and record.inode not in self._trees:
                    self._target.records.forget(record)

    def _drop_unfinished(self, records: Sequence[Record]) -> None:
        """Remove what interrupted pushes left, once nobody writes to it (`writers_kept_out`)."""
        ready = self._set_aside()
        known = {record.inode for record in records} | self._live | ready
        trees = [path for inode, path in self._trees.items() if inode not in known]
        leftovers = [
            path for path in trees if os.path.lexists(path) and path not in self._resisting
        ]
        layout = self._target.layout
        parts = scratch_files.bundles(layout.state) + scratch_files.unfinished(layout)
        if not leftovers and not parts and not os.path.lexists(note_path(layout)):
            return
        if self._rules.dry_run:
            self._drop_trees(leftovers)
            self._count(sum(map(measure, parts)))
            return
        try:
            with writers_kept_out(layout):
                self._drop_trees(leftovers)
                self._count(sum(map(measure, parts)))
                scratch_files.discard(layout)
                if not any(map(os.path.lexists, leftovers)) and not ready:
                    forget_staging(layout)
        except Locked as error:
            self.stays.append(f"an unfinished push: {error.message}")

    def _set_aside(self) -> Set[int]:
        """Return the inode of the next push's tree, if it is being made or `keep` leaves room."""
        note = find_staging(self._target.layout)
        if note is None or not (self.making or note.is_set_aside):
            return set()
        records = self._target.records.all()
        earlier = [r for r in records if not r.kept_because and r.inode not in self._live]
        is_of_use = bool(self._live) and len(earlier) < self._rules.keep
        return {note.inode} if self.making or (is_of_use and note.inode in self._trees) else set()

    def _drop_trees(self, trees: Sequence[bytes]) -> None:
        using = processes_below(trees)
        for tree in trees:
            reason = why_unremovable(tree) or _use(using[tree]) or self._too_young(tree)
            if reason:
                self.stays.append(f"an unfinished push: {reason}")
            elif self._remove_tree(tree):
                self._unfinished += 1

    def _remove_tree(self, tree: bytes, record: Optional[Record] = None) -> bool:
        """Remove a record and then its tree; return False if something cannot be removed."""
        status, size_bytes = os.lstat(tree), measure(tree)
        if not self._rules.dry_run:
            try:
                if record is not None:
                    self._target.records.forget(record)
                remove_version(self._target.layout, status.st_ino)
            except OSError as error:
                self._resisting.add(tree)
                self._problems.append(f"{os.fsdecode(tree)}: {error.strerror}")
                return False
            self._target.trees.cache(status.st_dev, status.st_ino).forget()
        self._count(size_bytes)
        return True

    def _remove_file(self, path: bytes, remove: _Removal = _unlink) -> None:
        """Remove a file of the state; through a descriptor, as `Layout.opened` says."""
        self._count(measure(path))
        if not self._rules.dry_run:
            with self._target.layout.opened(os.path.dirname(path)) as fd:
                remove(os.path.basename(path), fd)

    def _count(self, size_bytes: int) -> None:
        self._size_bytes += size_bytes
        self._freed(size_bytes)


def _use(processes: Sequence[ProcessUse]) -> str:
    """Return why a tree that these processes use must stay, or "" if there are none."""
    return next((f"process {use.label} uses it: {use.command}" for use in processes), "")


def _was_live(record: Record, tree: bytes, at_seconds: float) -> bool:
    """Return whether a version that was replaced may have been live then.

    A process that began then has that version's program open, whichever is live now.
    """
    until_seconds = os.lstat(tree).st_ctime + _CLOCK_SECONDS
    return record.when_seconds - BEGINNING_SECONDS <= at_seconds <= until_seconds


def _temporary(state: bytes) -> List[bytes]:
    """Return files that a process left before it gave them their final name."""
    return [os.path.join(state, name) for name in os.listdir(state) if name.startswith(_TEMPORARY)]
