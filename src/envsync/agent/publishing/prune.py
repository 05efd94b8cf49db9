"""Prunes earlier versions beyond `keep`, and trees without a record."""

from __future__ import annotations

import contextlib
import os
from typing import Optional, Sequence

from envsync.agent.places.kept_versions import beyond_keep, found_record, ordinary_versions
from envsync.agent.places.layout import Layout
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.members import why_unremovable
from envsync.agent.places.records import Record
from envsync.agent.places.staging_note import find_staging
from envsync.agent.server.disk_failures import is_of_disk
from envsync.agent.server.processes import may_be_written_to
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.removal import remove_tree
from envsync.agent.trees.snapshot import Snapshot
from envsync.errors import SourceRefused, StorageFailed


def prune_generations(
    environment: LocalEnvironment, live: Record, keep: int, replaced: Optional[int]
) -> None:
    """Remove earlier versions beyond `keep`, but none with changes of its own.

    One that is no longer what was published, or that the disk does not return, is marked, and stays
    from then on. What this user cannot remove stays, too, and so does a tree for as long as a job
    may write there. A record whose tree is gone is forgotten.
    """
    earlier = ordinary_versions(environment.records.all(), live.inode)
    for record in beyond_keep(earlier, keep, live, replaced):
        # What cannot be removed is left for the next push or `gc`.
        with contextlib.suppress(OSError):
            _prune(environment, record)


def _prune(environment: LocalEnvironment, record: Record) -> None:
    records = environment.records
    tree = records.tree(record)
    if tree is None:
        records.forget(record)
    elif _is_removable(tree):
        reason = _why_kept(environment, tree, record)
        if reason:
            records.store(record._replace(kept_because=reason))
        else:
            records.forget(record)
            remove_version(environment.layout, record.inode)


def _why_kept(environment: LocalEnvironment, tree: bytes, record: Record) -> str:
    try:
        changed = not _is_as_recorded(environment, tree, record)
    except (OSError, StorageFailed) as error:
        if isinstance(error, OSError) and not is_of_disk(error):
            raise
        # Nobody knows what it is. Otherwise each push would fail to build on it, or to remove it.
        return "it could not be read"
    return "it was changed after it was replaced" if changed else ""


def prune_duplicates(environment: LocalEnvironment, newest: Record) -> None:
    """Remove older versions that failed their check with the same changes as `newest`.

    A check that writes into the environment leaves one with each push. What was changed is equal
    byte for byte, so nothing is lost. Those that were changed further, or are another user's, stay.
    """
    records = environment.records
    for record in records.all():
        is_alike = record.was_taken_back and record.own_changes == newest.own_changes
        if not is_alike or record.number >= newest.number:
            continue
        # What cannot be removed or read is left where it is.
        with contextlib.suppress(OSError, StorageFailed):
            tree = records.tree(record)
            if tree is None or not _is_removable(tree):
                continue
            if _is_as_recorded(environment, tree, record):
                records.forget(record)
                remove_version(environment.layout, record.inode)


def remove_orphaned_trees(environment: LocalEnvironment, keep_inodes: Sequence[int]) -> None:
    """Remove every tree without a record, except those with `keep_inodes`.

    Nothing is removed if a record is damaged, or if a version that must be kept has lost its tree:
    any of the trees might be that one.
    """
    survey, trees = environment.records.survey(), environment.layout.trees_by_inode()
    if survey.damaged or survey.misses_kept({*keep_inodes, *trees}):
        return
    needed = {record.inode for record in survey.records} | set(keep_inodes)
    for inode, tree in trees.items():
        with contextlib.suppress(OSError):
            if inode not in needed and _is_removable(tree):
                remove_version(environment.layout, inode)


def remove_version(layout: Layout, inode: int) -> None:
    """Remove the tree with this inode, if it is still one of `trees`; see `remove_tree`.

    Nothing that a member of the group puts in its place is removed.
    """
    with layout.opened(layout.trees) as unread_fd, opened_directory(b"", unread_fd) as fd:
        for name in map(os.fsencode, os.listdir(fd)):
            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino == inode:
                remove_tree(name, fd)


def _is_removable(tree: bytes) -> bool:
    """Return whether this user can remove a tree, and no job that began in it may write there."""
    return not why_unremovable(tree) and not may_be_written_to(tree)


def _is_as_recorded(environment: LocalEnvironment, tree: bytes, record: Record) -> bool:
    """Return whether a tree is what was published; False if it keeps changing or may not be read.

    Raises OSError or `StorageFailed` if that cannot be determined.
    """
    try:
        return environment.is_as_published(tree, record)
    except SourceRefused:
        return False


DAMAGED_NOTE = "its switch was interrupted, and the note of that was damaged"


def record_orphaned_trees(environment: LocalEnvironment, because: str = DAMAGED_NOTE) -> None:
    """Record each tree that may be a version and has no record, so that none is lost."""
    layout, records, trees = environment
    staging = find_staging(layout)
    for inode, tree in layout.trees_by_inode().items():
        is_staging = staging is not None and staging.inode == inode
        if is_staging or records.at(inode) is not None:
            continue
        snapshot: Optional[Snapshot] = None
        with contextlib.suppress(SourceRefused, StorageFailed):
            snapshot = trees.snapshot(tree)
        local = trees.local.patterns
        record = found_record(records.next_number(), inode, snapshot, because, local)
        records.store(record, None if snapshot is None else snapshot.manifest())
