"""Chooses the tree that a push builds on.

The first of these that can be used: what an interrupted push left, or a copy set aside ahead; the
version that `keep` would drop once this one is published (double buffering: only what changed is
written anew); a new directory.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Iterator, NamedTuple, Optional, Sequence

from envsync.agent.places.kept_versions import next_to_go
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.members import may_build_on
from envsync.agent.places.records import Record
from envsync.agent.places.staging_note import find_staging
from envsync.agent.server.processes import may_be_written_to
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.stat_rows import has_names_elsewhere
from envsync.agent.wire.messages import ORIGIN_NEW, ORIGIN_RESUMED, ORIGIN_SPARE
from envsync.errors import SourceRefused, StorageFailed
from envsync.tree.manifest import EMPTY, Manifest


class StagingCandidate(NamedTuple):
    """A tree to build on: its path, its origin, its snapshot, and its record if it is a version.

    A new directory has no path and no snapshot yet (None).
    """

    tree: Optional[bytes]
    origin: str
    snapshot: Optional[Snapshot]
    record: Optional[Record] = None

    def manifest(self) -> Manifest:
        return EMPTY if self.snapshot is None else self.snapshot.manifest()


class _Possible(NamedTuple):
    """A tree that could be built on, if it still is what its `record` says, if it has one."""

    tree: bytes
    origin: str
    record: Optional[Record]


NOTHING = StagingCandidate(None, ORIGIN_NEW, None)


class StagingChoice:
    """Looks for the tree to build on, changing nothing.

    Without the push lock, another push may take a tree away meanwhile; it is then left out.
    """

    def __init__(self, environment: LocalEnvironment, keep: int) -> None:
        self.layout, self.records, self.trees = environment
        self._keep = keep

    def begin(self, live: Optional[Record]) -> None:
        """Start to search the first tree to be tried for changes, in the background.

        This is not done while a writer may still use it.
        """
        if self._is_at_rest():
            for possible in self._possible(live):
                self.trees.begin(possible.tree)
                return

    def ahead(self, live: Optional[Record]) -> Optional[StagingCandidate]:
        """Return the tree to build on with what is known of it; None if a writer may still use it.

        It counts only until something is staged.
        """
        if not self._is_at_rest():
            return None
        candidate = self.candidate(live)
        if candidate.snapshot is not None:
            candidate.snapshot.known()
        return candidate

    def _is_at_rest(self) -> bool:
        note = find_staging(self.layout)
        return note is None or note.is_set_aside

    def candidate(self, live: Optional[Record], wanted: str = "") -> StagingCandidate:
        """Return the tree to build on, hashed; `live` is the record of the live tree.

        `wanted` is the revision that will be built, given if it may be on record already.
        """
        for tree, origin, record in self._possible(live, wanted):
            with contextlib.suppress(SourceRefused, StorageFailed, FileNotFoundError):
                snapshot = self.trees.snapshot(tree)
                is_it = record is None or record.revision == snapshot.revision
                if is_it and not has_names_elsewhere(snapshot.scan.directories):
                    return StagingCandidate(tree, origin, snapshot, record)
            # Not usable: somebody wrote into it after it was replaced, or still does, or it cannot
            # be read any more; or its files have hard links elsewhere, made by conda (to its
            # package cache and other environments, if the tree was recorded as it was found) or
            # by a copy. Their modes, times and owners would change as well.
        return NOTHING

    def _possible(self, live: Optional[Record], wanted: str = "") -> Iterator[_Possible]:
        records = self.records.all()
        noted = self._noted(records)
        if noted is not None:
            yield noted
        for record in next_to_go(records, live, self._keep, wanted):
            surplus = self._surplus(record)
            if surplus is not None:
                yield surplus

    def _noted(self, records: Sequence[Record]) -> Optional[_Possible]:
        """Return the tree that an interrupted push left or that was set aside, or None."""
        note = find_staging(self.layout)
        if note is None or note.inode in {record.inode for record in records}:
            return None
        origin = ORIGIN_SPARE if note.is_set_aside else ORIGIN_RESUMED
        tree = self.layout.trees_by_inode().get(note.inode)
        with contextlib.suppress(FileNotFoundError):
            if tree and stat.S_ISDIR(os.lstat(tree).st_mode) and may_build_on(tree):
                return _Possible(tree, origin, None)
        return None

    def _surplus(self, record: Record) -> Optional[_Possible]:
        """Return the tree of a version to be dropped, or None if it may still be needed."""
        tree = self.records.tree(record)
        with contextlib.suppress(FileNotFoundError):
            # A job that started with this version and may write there would write into the next.
            if tree and may_build_on(tree) and not may_be_written_to(tree):
                return _Possible(tree, ORIGIN_SPARE, record)
        return None
