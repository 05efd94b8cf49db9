"""Takes snapshots of trees: from the content cache where that is valid, else by hashing."""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Collection, Dict, Iterator, Optional, Tuple

from envsync.agent.server.filesystem import mount_of
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.server.progress import Progress
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.content_cache import CacheLost, ContentCache, StoredRows
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.hashing import Hashing
from envsync.agent.trees.open_tree import NO_VERSIONS, OpenTree, Versions
from envsync.agent.trees.racy_timestamps import seconds_to_settle
from envsync.agent.trees.running_search import RunningSearch, Searches, begin
from envsync.agent.trees.scan import (
    are_directories_unchanged,
    scan,
    scan_since,
    scan_touched,
)
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.snapshot import Snapshot, cached_directories
from envsync.agent.trees.stable_hashing import Hashed, SecondPass, StableHashing
from envsync.agent.trees.written_digests import WrittenDigests
from envsync.errors import SourceRefused, StorageFailed
from envsync.tree.local import LocalPaths


class Trees:
    """Takes snapshots of trees, all with the same content cache."""

    def __init__(
        self,
        cache_directory: Optional[str],
        local: LocalPaths,
        helpers: HelperProcesses = NO_HELPERS,
        versions: Versions = NO_VERSIONS,
    ) -> None:
        """`versions` are those on record, of which a tree may be one."""
        self.local = local
        self.versions = versions
        self._cache_directory = cache_directory
        self.helpers = helpers
        self.searches = Searches()
        self._unstored: Dict[Tuple[int, int], Hashed] = {}
        self._stores_later = False

    def with_local_paths(self, local: LocalPaths) -> Trees:
        """Return a `Trees` for other local paths, which have content caches of their own."""
        return Trees(self._cache_directory, local, self.helpers, self.versions)

    @contextlib.contextmanager
    def storing_later(self) -> Iterator[None]:
        """Within the block, put off storing what is hashed until it is needed, or until `close`."""
        self._stores_later = True
        try:
            yield
        finally:
            self._stores_later = False

    def _store(self) -> None:
        while self._unstored:
            self._unstored.popitem()[1].store()

    def cache(self, device: int, inode: int) -> ContentCache:
        """Return the cache of the tree with that top directory, having stored what was put off."""
        unstored = self._unstored.pop((device, inode), None)
        if unstored is not None:
            unstored.store()
        return ContentCache(self._cache_directory, device, inode, self.local)

    @contextlib.contextmanager
    def _opened(self, path: bytes) -> Iterator[OpenTree]:
        with opened_directory(path) as top_fd:
            yield OpenTree(top_fd, self.local, path, self.helpers, self.versions.directories)

    def scan_again(self, path: bytes, before: Scan, *, is_urgent: bool = False) -> Scan:
        """Make a further stat pass over a tree that was scanned `before`, hashing nothing.

        If `is_urgent`, it uses more processors where the tree is large enough.
        """
        with self._opened(path) as tree:
            return scan_since(tree, before, is_urgent=is_urgent)

    def are_directories_unchanged(self, path: bytes, before: Scan) -> bool:
        """Return whether nothing was created, removed or renamed in the tree since a scan of it."""
        with opened_directory(path) as top_fd:
            return are_directories_unchanged(top_fd, before)

    def is_still(self, path: bytes, now: Scan, seen: Snapshot) -> bool:
        """Return whether the tree scanned `now` is the one that was `seen`, content unchanged."""
        if now.inode != seen.scan.inode:
            return False
        return now.signature == seen.scan.signature or (
            self.snapshot(path).revision == seen.revision
        )

    def is_unchanged(self, path: bytes, seen: Snapshot) -> bool:
        """Return whether a tree is, right after a switch, still what was `seen`.

        One that keeps changing, or whose changes cannot be read, is not what it was.
        """
        try:
            now = self.scan_again(path, seen.scan, is_urgent=True)
            return self.is_still(path, now, seen)
        except (SourceRefused, StorageFailed):
            return False

    def snapshot(
        self,
        path: bytes,
        *,
        fresh: bool = False,
        glance: bool = False,
        progress: Optional[Progress] = None,
    ) -> Snapshot:
        """Return the tree as it is now; `fresh` hashes every byte again.

        The pass after hashing covers the whole tree, as publishing requires; with `glance` it
        covers only the directories in which something was new.

        Raises `SourceRefused` if the tree keeps changing or cannot be read, `StorageFailed` if a
        disk fails, and the OSError of opening the tree if it does not exist.
        """
        margin_seconds = mount_of(path).stamp_margin_seconds
        with self._opened(path) as tree:
            known: Dict[bytes, Known] = {}
            if fresh:
                cache, first = self._cache_of(tree), scan(tree)
            else:
                cache, first = self._first(tree, ahead=True)
                unchanged = self._unchanged(path, first, cache)
                if unchanged is not None:
                    return unchanged
                first, known = _readable(tree, first), cache.directories()
            second_pass = SecondPass.CHANGED if glance else SecondPass.WHOLE
            hashing = StableHashing(tree, cache, margin_seconds, progress)
            hashed = hashing.hash(first, known, second_pass)
            self._unstored[first.device, first.inode] = hashed
            if not self._stores_later:
                self._store()
            return hashed.snapshot

    def _cache_of(self, tree: OpenTree) -> ContentCache:
        return self.cache(*_identity(tree.top_fd))

    def _first(self, tree: OpenTree, *, ahead: bool = False) -> Tuple[ContentCache, Scan]:
        """Return the tree's cache and a first scan, which continues from the cached one if it can.

        With `ahead`, the cache is read while changes are searched for. If there are none, that
        was for nothing, but the caller would only have waited.
        """
        running = self.searches.take(_identity(tree.top_fd))
        cache = self._cache_of(tree) if running is None else running.cache
        running = running or begin(tree.top_fd, tree.path, cache)
        continued = None if running is None else self._continued(tree, running, ahead=ahead)
        return cache, scan(tree) if continued is None else continued

    def _continued(self, tree: OpenTree, running: RunningSearch, *, ahead: bool) -> Optional[Scan]:
        """Return a scan that continues from the cached one, or None if that is of no use."""
        if self._mistook_local(running):
            running.search.give_up()
            return None
        if ahead:
            running.read_ahead()
        try:
            return scan_since(tree, running.before, running.search)
        except CacheLost:
            return None

    def _mistook_local(self, running: RunningSearch) -> bool:
        """Return whether the cached scan took a directory of the version for a local path.

        That happens if the version was unknown at that scan. A scan that continues from it would
        not notice.
        """
        before = running.before
        pruned = [path for path in before.local if not self.local.matches(path)]
        if not pruned or self.versions.revision(before.inode) in ("", running.revision):
            return False
        of_version = self.versions.directories(before.inode)
        return any(path in of_version for path in pruned)

    def begin(self, path: bytes) -> None:
        """Start to search for changes in a tree, in the background, for a later look at it."""
        with contextlib.suppress(OSError), opened_directory(path) as top_fd:
            key = _identity(top_fd)
            running = None if key in self.searches else begin(top_fd, path, self.cache(*key))
            if running is not None:
                self.searches.add(key, running)

    def close(self) -> None:
        """End searches that nobody asked for, and store what is still to be stored."""
        self.searches.give_up()
        self._store()

    def _unchanged(self, path: bytes, now: Scan, cache: ContentCache) -> Optional[Snapshot]:
        """Return the cached snapshot if the tree is still as it was then, else None."""
        summary = cache.summary()
        if summary is None or summary.scan.signature != now.signature:
            return None
        cached = cached_directories(cache, now, lambda: self.snapshot(path, fresh=True))
        rows = now.directories
        if not isinstance(rows, StoredRows) or rows.compared:
            cache.seen_again(now)
        if isinstance(rows, StoredRows):
            now = now._replace(directories=StoredRows(cached, rows.busy_candidates, rows.partition))
        return Snapshot(summary.revision, summary.totals, now, cached, 0)

    def unconfirmed(
        self,
        path: bytes,
        before: Optional[Hashed] = None,
        *,
        progress: Optional[Progress] = None,
        on_change: Callable[[Scan], None] = lambda _: None,
        hashing: Optional[Hashing] = None,
    ) -> Tuple[Snapshot, Optional[Hashed]]:
        """Return the tree as found by one pass and the hashing after it, and what was hashed.

        The second item is None if the snapshot came from the cache. The result counts, and may be
        kept, only once a further scan has the same signature. `before` is the result of a try
        that was not confirmed. `on_change` is called with the pass that precedes the hashing.
        Raises the errors of `snapshot`.
        """
        with self._opened(path) as tree:
            cache, first = self._first(tree)
            unchanged = self._unchanged(path, first, cache)
            if unchanged is not None:
                return unchanged, None
            first = _readable(tree, first)
            on_change(first)
            known = cache.directories() if before is None else before.for_retry()
            margin_seconds = mount_of(path).stamp_margin_seconds
            attempts = StableHashing(tree, cache, margin_seconds, progress, hashing)
            hashed = attempts.hash(first, known, SecondPass.IF_UNREADABLE)
            return hashed.snapshot, hashed

    def snapshot_private(
        self,
        path: bytes,
        before: Optional[Snapshot],
        touched: Collection[bytes],
        written: WrittenDigests,
        progress: Optional[Progress] = None,
        known: Optional[Dict[bytes, Known]] = None,
        of_version: Collection[bytes] = (),
    ) -> Snapshot:
        """Return a snapshot of a tree that only this process writes to, after it has done so.

        A file whose status is in `written` was hashed as it was written. One pass is enough, and
        if there is an earlier snapshot (`before`), only over the directories `touched` since.
        Without one, `known` has directories that were read one by one. `of_version` are the
        directories of the version that the tree will become.
        The cached result is valid once `seconds_to_settle` have passed; nobody else may write to
        the tree before then.
        """
        with self._opened(path) as opened:
            tree = opened._replace(directories_of=lambda _: of_version)
            scanned = scan(tree) if before is None else scan_touched(tree, before.scan, touched)
            cache = self.cache(scanned.device, scanned.inode)
            known = before.known() if before is not None else known or {}
            hashing = StableHashing(tree, cache, 0.0, progress, written=written)
            hashed = hashing.hash(scanned, known, SecondPass.IF_UNREADABLE)
            # Nobody else writes there, so no file can change and keep its timestamps.
            hashed._replace(settled_ns=hashed.snapshot.scan.newest_ns).store()
            return hashed.snapshot

    def seconds_to_settle(self, path: bytes, scanned: Scan) -> float:
        """Return the seconds until any change of a tree shows timestamps later than this scan's."""
        return seconds_to_settle(scanned, mount_of(path).stamp_margin_seconds)


def _identity(top_fd: int) -> Tuple[int, int]:
    top = os.fstat(top_fd)
    return top.st_dev, top.st_ino


def _readable(tree: OpenTree, first: Scan) -> Scan:
    """Return a first scan whose rows can be read, after the cached snapshot was of no use.

    Another process may have replaced the cache from which they were still to be read.
    """
    try:
        first.directories.items()  # read now, and kept by the cache
    except CacheLost:
        return scan(tree)
    return first
