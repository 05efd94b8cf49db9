"""Frees disk space on a target, for `envsync gc`.

An environment is swept with its push lock held, so no push runs at the same time. First it is
decided what goes (`gc_survey`), which is all that a dry run does. A record is forgotten before its
tree is removed: after a crash at any point, the next sweep removes a tree without a record. Nothing
here changes a record: what must not be removed stays as it is.
"""

from __future__ import annotations

import contextlib
import os
from typing import List, Sequence

from envsync.agent.places.locks import holder_at, under_way, writers_kept_out
from envsync.agent.places.members import closed_to_sweeps
from envsync.agent.places.staging_note import forget_staging
from envsync.agent.publishing.prune import remove_version
from envsync.agent.server.accounts import user_name
from envsync.agent.server.progress import Progress
from envsync.agent.staging import scratch_files
from envsync.agent.target.gc_survey import Rules, Tree, survey, unused_trees
from envsync.agent.target.target import Target
from envsync.agent.trees.removal import measure, remove_tree
from envsync.agent.wire.server_operations import SweepFacts
from envsync.errors import CheckFailed, Locked


def sweep(target: Target, rules: Rules, freed: Progress = lambda _: None) -> SweepFacts:
    """Free what one environment does not need.

    Nothing is freed while a push is under way, or if the environment is closed to this user.
    """
    closed = closed_to_sweeps(target.layout)
    if closed:
        return SweepFacts(target.name, stays=(left_to_owner(closed),))
    if rules.dry_run:
        return _dry_run(target, rules, freed)
    try:
        target.lock.acquire()
    except Locked as error:
        return SweepFacts(target.name, locked=error.message, same_place_as=target.lock.held_for())
    try:
        # The interrupted push reports its failed check; the previous version is live again.
        with contextlib.suppress(CheckFailed):
            target.recover()
        return _carry_out(target, rules, freed)
    finally:
        target.lock.release()


def left_to_owner(directory: bytes) -> str:
    """Return the line for a directory in which only its owner can free anything."""
    owner = "its owner"
    with contextlib.suppress(OSError):
        owner = user_name(os.stat(directory).st_uid)
    return (
        f"everything in {os.fsdecode(directory)}, which is closed to {user_name()}: "
        f"let {owner} run `envsync gc` there"
    )


def _dry_run(target: Target, rules: Rules, freed: Progress) -> SweepFacts:
    """Return what a sweep would do. (A real one would stop whoever makes a spare tree.)"""
    holder = holder_at(target.layout)
    if holder is not None and not holder.yields:
        return SweepFacts(target.name, locked=under_way(target.layout, holder.who))
    making = "" if holder is None else holder.who
    target.recover_if_free()
    found = survey(target, rules, making)
    unused, used = unused_trees(found.unfinished, rules)
    trees = [*found.versions, *unused]
    size_bytes = sum(tree.size_bytes for tree in trees)
    size_bytes += sum(map(measure, [*found.files, *found.parts]))
    freed(size_bytes)
    return _facts(target, trees, size_bytes, [*found.stays, *used])._replace(making=making)


def _carry_out(target: Target, rules: Rules, freed: Progress) -> SweepFacts:
    found, layout = survey(target, rules), target.layout
    stays = list(found.stays)
    removal = _Removal(target, freed)
    removal.remove_trees(found.versions)
    for record in found.treeless:
        target.records.forget(record)
    if found.unfinished or found.parts or found.has_note:
        try:
            with writers_kept_out(layout):
                # Decided only here: what an interrupted push left running is ended first.
                unused, used = unused_trees(found.unfinished, rules)
                stays += used
                removal.remove_trees(unused)
                removal.count(sum(map(measure, found.parts)))
                scratch_files.discard(layout)
                if found.has_note and not any(map(os.path.lexists, found.unfinished)):
                    forget_staging(layout)
        except Locked as error:
            stays.append(f"an unfinished push: {error.message}")
    removal.remove_files(found.files)
    facts = _facts(target, removal.removed, removal.size_bytes, stays)
    return facts._replace(problems=tuple(removal.problems))


def _facts(
    target: Target, trees: Sequence[Tree], size_bytes: int, stays: Sequence[str]
) -> SweepFacts:
    numbers = [tree.record.number for tree in trees if tree.record is not None]
    unfinished = len(trees) - len(numbers)
    return SweepFacts(target.name, tuple(numbers), unfinished, size_bytes, tuple(stays))


class _Removal:
    """Removes what was decided, and counts it; `problems` are trees that cannot be removed."""

    def __init__(self, target: Target, freed: Progress) -> None:
        self._target = target
        self._freed = freed
        self.removed: List[Tree] = []
        self.size_bytes = 0
        self.problems: List[str] = []

    def remove_trees(self, trees: Sequence[Tree]) -> None:
        """Remove trees, each after its record."""
        for tree in trees:
            try:
                self._remove(tree)
            except OSError as error:
                self.problems.append(f"{os.fsdecode(tree.path)}: {error.strerror}")
            else:
                self.removed.append(tree)
                self.count(tree.size_bytes)

    def _remove(self, tree: Tree) -> None:
        if tree.record is not None:
            self._target.records.forget(tree.record)
        remove_version(self._target.layout, tree.status.st_ino)
        self._target.trees.cache(tree.status.st_dev, tree.status.st_ino).forget()

    def remove_files(self, paths: Sequence[bytes]) -> None:
        """Remove files of the state, or directories in their place, as `Layout.opened` says."""
        for path in paths:
            size_bytes = measure(path)
            with self._target.layout.opened(os.path.dirname(path)) as fd:
                remove_tree(os.path.basename(path), fd)
            self.count(size_bytes)

    def count(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self._freed(size_bytes)
