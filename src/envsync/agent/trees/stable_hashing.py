"""Hashes a tree between two stat passes, and hashes changes again until two passes agree."""

from __future__ import annotations

import enum
import stat
from typing import Collection, Dict, List, NamedTuple, Optional

from envsync.agent.server.progress import Progress
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.content_cache import ContentCache, Summary
from envsync.agent.trees.hashing import Hashing
from envsync.agent.trees.listing_build import ListingBuild
from envsync.agent.trees.open_tree import OpenTree
from envsync.agent.trees.racy_timestamps import let_stamps_settle, without_racy
from envsync.agent.trees.scan import scan_only, scan_since
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.stat_rows import pack, unpack
from envsync.agent.trees.unreadable_paths import require_readable
from envsync.agent.trees.written_digests import NO_WRITTEN_DIGESTS, WrittenDigests
from envsync.errors import Hint, SourceRefused
from envsync.tree.entry import split
from envsync.tree.manifest import Totals
from envsync.tree.revision import combine

ATTEMPTS = 4


class Hashed(NamedTuple):
    """A snapshot for which files were read.

    Files that changed after `settled_ns` may change again without a new timestamp. `changed` are
    the directories with something that was not known before.
    """

    snapshot: Snapshot
    cache: ContentCache
    settled_ns: int
    changed: Collection[bytes]
    unreadable: List[bytes]

    def store(self) -> None:
        """Store it in the content cache."""
        snapshot, scanned = self.snapshot, self.snapshot.scan
        directories = snapshot.known()
        is_racy = scanned.newest_ns > self.settled_ns
        summary = Summary(snapshot.revision, snapshot.totals, scanned)
        stored = without_racy(directories, self.settled_ns) if is_racy else directories
        self.cache.store(summary, stored, is_racy=is_racy)

    def for_retry(self) -> Dict[bytes, Known]:
        """Return what another attempt may rely on after this one was not confirmed.

        Files can be relied on, because each was hashed only if its inode was that of its row. But
        unreadable paths and link targets may come from a moment in which another directory took
        the place of theirs, which leaves no trace in their own status.
        """
        kept = without_racy(self.snapshot.known(), self.settled_ns)
        for path in {split(path)[0] for path in self.unreadable}:
            kept.pop(path, None)
        for path, known in kept.items():
            rows = unpack(known.rows)
            if any(stat.S_ISLNK(row.mode) for row in rows):
                rows = [row._replace(inode=0) if stat.S_ISLNK(row.mode) else row for row in rows]
                kept[path] = known._replace(rows=pack(rows))
        return kept


class SecondPass(enum.Enum):
    """Which further pass has to equal the first before what was hashed counts."""

    WHOLE = "over the whole tree"
    CHANGED = "over the directories in which something was not known"
    IF_UNREADABLE = "over the whole tree, only if something could not be read"


class StableHashing(NamedTuple):
    """How to hash a tree that may be written to meanwhile. `hash` stores nothing in the `cache`."""

    tree: OpenTree
    cache: ContentCache
    margin_seconds: float
    progress: Optional[Progress] = None
    hashing: Optional[Hashing] = None
    written: WrittenDigests = NO_WRITTEN_DIGESTS

    def hash(self, first: Scan, known: Dict[bytes, Known], second_pass: SecondPass) -> Hashed:
        """Hash the tree until the passes before and after it agree, if there is one after it.

        Raises `SourceRefused` if no two passes agree or files cannot be read, and `StorageFailed`
        if that is the disk's fault.
        """
        hashed_bytes = 0
        for _ in range(ATTEMPTS):
            hashed = self._attempt(first, known, hashed_bytes)
            if second_pass is SecondPass.IF_UNREADABLE and not hashed.unreadable:
                return hashed
            second = self._second(first, hashed, second_pass)
            if second.signature == first.signature:
                require_readable(self.tree.top_fd, hashed.unreadable)
                return hashed
            known = hashed.for_retry()
            first = second
            hashed_bytes = hashed.snapshot.hashed_bytes
        raise SourceRefused(
            "it keeps changing while it is read", hint=Hint("[[try again when it is at rest]]")
        )

    def _second(self, first: Scan, hashed: Hashed, second_pass: SecondPass) -> Scan:
        if second_pass is SecondPass.CHANGED:
            second = scan_only(self.tree, first, hashed.changed)
            if second.signature == first.signature:
                return second
            # The directory itself may be gone, which only its parent shows.
        return scan_since(self.tree, first)

    def _attempt(self, scanned: Scan, known: Dict[bytes, Known], hashed_bytes: int) -> Hashed:
        """Hash the tree once; earlier attempts hashed `hashed_bytes`."""
        settled_ns = let_stamps_settle(scanned, self.margin_seconds)
        top_fd, rows = self.tree.top_fd, scanned.directories
        build = ListingBuild(top_fd, rows, known, self.written, self.progress, self.hashing)
        directories = build.directories()
        hashed_bytes += build.hashed_bytes
        revision = combine({path: row.digest for path, row in directories.items()})
        totals = _totals(scanned.entries, directories)
        snapshot = Snapshot(revision, totals, scanned, lambda: directories, hashed_bytes)
        return Hashed(snapshot, self.cache, settled_ns, build.changed, build.unreadable)


def _totals(entries: int, directories: Dict[bytes, Known]) -> Totals:
    files = size_bytes = 0
    for known in directories.values():
        files += known.files
        size_bytes += known.size_bytes
    return Totals(entries, files, size_bytes)
