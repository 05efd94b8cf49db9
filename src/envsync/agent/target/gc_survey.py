"""Decides what a sweep of an environment frees (`gc`), and changes nothing."""

from __future__ import annotations

import os
from typing import List, NamedTuple, Optional, Sequence, Tuple

from envsync.agent.places.kept_versions import beyond_keep, ordinary_versions
from envsync.agent.places.layout import Layout
from envsync.agent.places.members import require_open_records, why_unremovable
from envsync.agent.places.records import Record
from envsync.agent.places.staging_note import find_staging, note_path
from envsync.agent.server.filesystem import mount_of
from envsync.agent.server.processes import processes_below, processes_of_others, unseen
from envsync.agent.staging import scratch_files
from envsync.agent.target.target import Target
from envsync.agent.trees.removal import measure
from envsync.agent.wire.messages import ProcessUse
from envsync.errors import EnvsyncError
from envsync.files.whole import TEMPORARY

NETWORK_AGE_SECONDS = 7 * 86400.0
"""How long a tree on a network filesystem stays after its last switch: processes on other machines,
which are not visible from this one, may use it."""

BEGINNING_SECONDS = 10.0
"""How long a process may take from its start until it has opened its program."""
_CLOCK_SECONDS = 0.02
"""How exactly the kernel dates a change of a directory."""

_USED = "whether a process uses it"
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


class Tree(NamedTuple):
    """A tree to remove; without a record, an interrupted push left it."""

    path: bytes
    status: os.stat_result
    size_bytes: int
    record: Optional[Record] = None


class Survey(NamedTuple):
    """What goes, and why anything else `stays`.

    `files` are of damaged records or were never finished; `treeless` are records to forget.
    Interrupted pushes left the `unfinished` trees, of which some may be in use (`unused_trees`),
    the `parts` of what they received, and a note on a staging tree if `has_note`.
    """

    stays: Sequence[str]
    versions: Sequence[Tree] = ()
    files: Sequence[bytes] = ()
    treeless: Sequence[Record] = ()
    unfinished: Sequence[bytes] = ()
    parts: Sequence[bytes] = ()
    has_note: bool = False


def survey(target: Target, rules: Rules, making: str = "") -> Survey:
    """Decide what goes, changing nothing; `making` says who is making a spare tree, if anybody."""
    layout = target.layout
    # Without records, every version would be taken for an unfinished push.
    require_open_records(layout)
    live, trees = layout.inode() or 0, layout.trees_by_inode()
    trees.pop(live, None)  # replaced since: a dry run has no lock
    records, damaged = on_record = target.records.survey()
    if damaged and not rules.drifted:
        return Survey(["everything: a record is damaged (--drifted removes what it kept)"])
    earlier = [r for r in records if r.inode in trees]
    ordinary = ordinary_versions(earlier, live)
    # Of an environment that was removed, no version is kept to go back to.
    keep = 0 if not live and target.records.history.removal() else rules.keep
    surplus = beyond_keep(ordinary, keep, next((r for r in records if r.inode == live), None))
    surplus += [record for record in earlier if record.kept_because]
    versions, stays = _removable(target, rules, [(trees[r.inode], r) for r in surplus])
    standing = {live, *trees}
    if on_record.misses_kept(standing) and not rules.drifted:
        stays.append(
            "versions without a record: one may have been changed by hand, then restored "
            "from a backup (--drifted removes them)"
        )
        return Survey(stays, versions)
    recorded = {record.inode for record in records}
    spare = _spare(layout, making, has_room=live != 0 and len(ordinary) < rules.keep)
    return Survey(
        stays,
        versions,
        files=damaged + target.records.orphans(damaged) + _temporary(layout.state),
        # After a restore from a backup, a record without a tree could be that of any tree.
        treeless=[r for r in records if r.inode not in standing] if live in recorded else (),
        unfinished=[tree for inode, tree in trees.items() if inode not in {spare, *recorded}],
        parts=scratch_files.bundles(layout.state) + scratch_files.unfinished(layout),
        has_note=spare not in trees and os.path.lexists(note_path(layout)),
    )


def _spare(layout: Layout, making: str, *, has_room: bool) -> int:
    """Return the inode of the next push's tree if it stays, else 0.

    It does while somebody is `making` it, and later if `keep` still leaves room for it.
    """
    note = find_staging(layout)
    if note is None:
        return 0
    return note.inode if making or (note.is_set_aside and has_room) else 0


def _removable(
    target: Target, rules: Rules, versions: Sequence[Tuple[bytes, Record]]
) -> Tuple[List[Tree], List[str]]:
    """Return which of these versions go, and a line for each that stays."""
    layout = target.layout
    using = processes_below([tree for tree, _ in versions])
    others = processes_of_others((layout.path, layout.live)) if versions else ()
    going: List[Tree] = []
    stays: List[str] = []
    for tree, record in versions:
        by_others = [use for use, began in others if _was_live(record, tree, began)]
        reason = (
            why_unremovable(tree, record.kept_because)
            or _changed(target, rules, record, tree)
            or _use(using[tree])
            or _use(by_others)
            or unseen(_USED)
            or _too_young(tree, rules)
        )
        if reason:
            stays.append(f"generation {record.number}: {reason}")
        else:
            going.append(_going(tree, record))
    return going, stays


def unused_trees(unfinished: Sequence[bytes], rules: Rules) -> Tuple[List[Tree], List[str]]:
    """Return which of these trees of interrupted pushes go, and a line for each that stays."""
    using = processes_below(unfinished)
    going: List[Tree] = []
    stays: List[str] = []
    for tree in unfinished:
        is_used = _use(using[tree]) or unseen(_USED)
        reason = why_unremovable(tree) or is_used or _too_young(tree, rules)
        if reason:
            stays.append(f"an unfinished push: {reason}")
        else:
            going.append(_going(tree))
    return going, stays


def _going(tree: bytes, record: Optional[Record] = None) -> Tree:
    return Tree(tree, os.lstat(tree), measure(tree), record)


def _changed(target: Target, rules: Rules, record: Record, tree: bytes) -> str:
    """Return why no clean-up may remove a version, or ""; with `drifted` any may be removed."""
    if rules.drifted:
        return ""
    if record.kept_because:
        return f"{record.kept_because} (--drifted removes it)"
    try:
        if target.environment.is_as_published(tree, record):
            return ""
    except (EnvsyncError, OSError) as error:
        return f"it cannot be read ({error})"
    return "it was changed after it was replaced (--drifted removes it)"


def _too_young(tree: bytes, rules: Rules) -> str:
    """Return why a tree must stay for now, or "". Its last switch gave its top a new ctime."""
    mount = mount_of(tree)
    age_seconds = rules.now_seconds - os.lstat(tree).st_ctime
    if not mount.is_network or age_seconds > NETWORK_AGE_SECONDS:
        return ""
    return f"it is on {mount.kind} and younger than 7 days: other machines may use it"


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
