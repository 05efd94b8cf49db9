"""Prunes earlier versions beyond `keep`, and trees without a record."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Optional, Sequence

from envsync.agent.places.kept_versions import beyond_keep, is_as_published
from envsync.agent.places.layout import Layout
from envsync.agent.places.members import why_unremovable
from envsync.agent.places.records import Record, Records
from envsync.agent.places.staging_note import find_staging
from envsync.agent.server.facts import may_be_written_to, who
from envsync.agent.trees.removal import remove_tree
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.trees import Trees
from envsync.agent.wire.messages import KEPT
from envsync.errors import SourceRefused, StorageFailed
from envsync.tree.manifest import EMPTY


def prune_generations(
    trees: Trees, records: Records, live: Record, keep: int, replaced: Optional[int] = None
) -> int:
    """Remove earlier versions beyond `keep`, but none with changes of its own; return how many.

    One that is no longer what was published is marked, and stays from then on. What this user
    cannot remove stays, too. A record whose tree is gone is forgotten.
    """
    earlier = [r for r in records.all() if not r.kept_because and r.inode != live.inode]
    dropped = 0
    for record in beyond_keep(earlier, keep, live, replaced):
        tree = records.tree(record)
        if tree is not None and (why_unremovable(tree) or _is_worked_in(tree, record, live)):
            continue
        if tree is not None and not _is_as_recorded(trees, tree, record):
            records.store(record._replace(kept_because="it was changed after it was replaced"))
            continue
        records.forget(record)
        if tree is not None:
            # What cannot be removed harms nobody: the next push, or `gc`, tries again.
            with contextlib.suppress(OSError):
                remove_tree(tree)
        dropped += 1
    return dropped


def prune_duplicates(trees: Trees, records: Records, newest: Record) -> None:
    """Remove older versions that failed their check with the same changes as `newest`.

    A check that writes into the environment leaves one with each push. What was changed is equal
    byte for byte, so nothing is lost. Those that were changed further, or are another user's, stay.
    """
    for record in records.all():
        is_alike = record.was_taken_back and record.own_changes == newest.own_changes
        tree = records.tree(record)
        if not is_alike or record.number >= newest.number or tree is None or why_unremovable(tree):
            continue
        # What cannot be removed or read harms nobody.
        with contextlib.suppress(OSError, StorageFailed):
            if _is_as_recorded(trees, tree, record):
                records.forget(record)
                remove_tree(tree)


def remove_orphaned_trees(places: Layout, records: Records, keep_inodes: Sequence[int]) -> int:
    """Remove every tree without a record, except those with `keep_inodes`; return how many.

    Returns 0, with nothing removed, if a record is damaged, or if a version that must be kept has
    lost its tree: any of the trees might be that one.
    """
    if records.has_damage() or records.misses_kept(keep_inodes):
        return 0
    removed = 0
    needed = {record.inode for record in records.all()} | set(keep_inodes)
    for path in places.other_trees():
        if os.lstat(path).st_ino not in needed and not why_unremovable(path):
            with contextlib.suppress(OSError):
                remove_tree(path)
                removed += 1
    return removed


def _is_worked_in(tree: bytes, record: Record, live: Record) -> bool:
    """Return whether a job may still write into an earlier tree with the content of `live`.

    No other tree is examined: this one goes first, although it was live a moment ago if the version
    was published again.
    """
    return record.revision == live.revision and may_be_written_to(tree)


def _is_as_recorded(trees: Trees, tree: bytes, record: Record) -> bool:
    """Return whether a tree is what was published; False if it keeps changing or may not be read.

    Raises OSError or `StorageFailed` if that cannot be determined.
    """
    try:
        return is_as_published(trees, tree, record)
    except SourceRefused:
        return False


DAMAGED_NOTE = "its switch was interrupted, and the note of that was damaged"


def record_orphaned_trees(
    places: Layout, trees: Trees, records: Records, because: str = DAMAGED_NOTE
) -> None:
    """Record each tree that may be a version and has no record, so that none is lost."""
    staging = find_staging(places)
    for tree in places.other_trees():
        inode = os.lstat(tree).st_ino
        is_staging = staging is not None and staging.inode == inode
        if is_staging or records.at(inode) is not None:
            continue
        found: Optional[Snapshot] = None
        with contextlib.suppress(SourceRefused, StorageFailed):
            found = trees.snapshot(tree)
        # A tree that keeps changing, or cannot be read, has no revision; it is kept all the same.
        revision = "" if found is None else found.revision
        record = Record(
            number=records.next_number(),
            revision=revision,
            source_revision=revision,
            inode=inode,
            who=who(),
            source="",
            when_seconds=time.time(),
            method=KEPT,
            transport="",
            totals=EMPTY.totals() if found is None else found.totals,
            kept_because=because,
            local=trees.local.patterns,
        )
        records.store(record, None if found is None else found.manifest())
