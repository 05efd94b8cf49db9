"""Versions that nobody asked to keep: those that may go, and those that must not."""

from __future__ import annotations

import os
import time

from envsync.agent.facts import who
from envsync.agent.layout import Layout, read_json
from envsync.agent.members import hindrance
from envsync.agent.messages import KEPT
from envsync.agent.records import Record, Records
from envsync.agent.removal import remove_tree
from envsync.agent.snapshot import Trees


def drop_surplus(trees: Trees, records: Records, live: Record, keep: int) -> int:
    """Remove earlier versions beyond `keep`, never one that has changes of its own.

    One whose tree is no longer what was published is marked, and stays from then on. One of
    another user's is left to that user.
    """
    earlier = [r for r in records.all() if not r.kept_because and r.inode != live.inode]
    dropped = 0
    for record in earlier[: max(0, len(earlier) - keep)]:
        tree = records.tree(record)
        if tree is not None and hindrance(tree):
            continue
        if tree is not None and trees.snapshot(tree).revision != record.revision:
            records.store(record._replace(kept_because="it was changed after it was replaced"))
            continue
        records.forget(record)
        if tree is not None:
            remove_tree(tree)
        dropped += 1
    return dropped


def keep_unrecorded(places: Layout, trees: Trees, records: Records) -> None:
    """Record each tree that was a version, perhaps, and has no record: none is lost."""
    note = read_json(places.file("staging.json"))
    staging = note.get("inode") if isinstance(note, dict) else None
    for tree in places.other_trees():
        inode = os.lstat(tree).st_ino
        if inode == staging or records.at(inode) is not None:
            continue
        found = trees.snapshot(tree)
        record = Record(
            number=records.next_number(),
            revision=found.revision,
            source_revision=found.revision,
            inode=inode,
            who=who(),
            source="",
            when_seconds=time.time(),
            method=KEPT,
            transport="",
            totals=found.totals,
            kept_because="its switch was interrupted, and the note of that was damaged",
        )
        records.store(record, found.manifest())
