"""A manifest that counts: hashed between two equal stat passes."""

from __future__ import annotations

import os
import stat
import time
from typing import (
    Callable,
    Collection,
    Dict,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

from envsync.agent.content_cache import ContentCache, Known, Summary
from envsync.agent.filesystem import COARSE_MARGIN_SECONDS, mount_of
from envsync.agent.hashing import Hashing
from envsync.agent.helper_processes import HelperProcesses
from envsync.agent.listing_build import Build
from envsync.agent.scan import NO_HELPERS, are_directories_unchanged, rescan, scan
from envsync.agent.scan_pass import Scan, open_directory
from envsync.agent.stat_rows import pack, row_count, unpack
from envsync.agent.storage import require_good_disk
from envsync.agent.vouchers import NO_VOUCHERS, Vouchers
from envsync.errors import SourceRefused
from envsync.tree.entry import split
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest, Totals
from envsync.tree.revision import combine

ATTEMPTS = 4

Progress = Callable[[int], None]


class Snapshot(NamedTuple):
    """What a tree was at one moment.

    `hashed_bytes` is how much had to be read for it; the rest was known. `known` gives what
    is known of each directory. Both callables may have to read it first.
    """

    revision: str
    totals: Totals
    scan: Scan
    known: Callable[[], Dict[bytes, Known]]
    hashed_bytes: int

    def manifest(self) -> Manifest:
        listings = {path: known.listing for path, known in self.known().items()}
        return Manifest(listings, self.scan.mode, self.scan.mtime_ns)


class Trees:
    """Takes snapshots, with one content cache for all."""

    def __init__(
        self,
        cache_directory: Optional[str],
        local: LocalPaths,
        helpers: HelperProcesses = NO_HELPERS,
    ) -> None:
        self.local = local
        self._cache_directory = cache_directory
        self.helpers = helpers

    def cache(self, device: int, inode: int) -> ContentCache:
        return ContentCache(self._cache_directory, device, inode, self.local)

    def scan(self, path: bytes) -> Scan:
        """One stat pass; nothing is hashed."""
        top_fd = open_directory(path)
        try:
            return scan(top_fd, self.local, path, self.helpers)
        finally:
            os.close(top_fd)

    def are_directories_unchanged(self, path: bytes, before: Scan) -> bool:
        """Whether nothing was made, removed or renamed in a tree since a scan of it."""
        top_fd = open_directory(path)
        try:
            return are_directories_unchanged(top_fd, before)
        finally:
            os.close(top_fd)

    def is_still(self, path: bytes, now: Scan, seen: Snapshot) -> bool:
        """Whether a tree that is `now` so is the very one that was `seen`, with its content."""
        if now.inode != seen.scan.inode:
            return False
        return now.signature == seen.scan.signature or (
            self.snapshot(path).revision == seen.revision
        )

    def snapshot(
        self,
        path: bytes,
        *,
        fresh: bool = False,
        glance: bool = False,
        vouchers: Vouchers = NO_VOUCHERS,
        progress: Optional[Progress] = None,
    ) -> Snapshot:
        """The tree as it is now; `fresh` hashes every byte again.

        A file whose status is that of its voucher was hashed as it was written. The pass
        after hashing sees the whole tree, as publishing it demands; at a `glance` only the
        directories in which something was looked into.

        Raises `SourceRefused` where the tree goes on changing or cannot be read, and the
        OSError of opening it where it is not there.
        """
        margin_seconds = mount_of(path).stamp_margin_seconds
        top_fd = open_directory(path)
        try:
            first = scan(top_fd, self.local, path, self.helpers)
            cache = self.cache(first.device, first.inode)
            summary = None if fresh else cache.summary()
            if summary is not None and summary.signature == first.signature:
                later = _Later(cache, first, lambda: self.snapshot(path, fresh=True))
                return Snapshot(summary.revision, summary.totals, first, later, 0)
            known = {} if fresh else cache.directories()
            attempt = _Attempts(top_fd, cache, self.local, vouchers, progress)
            return attempt.run(first, known, margin_seconds, glance)
        finally:
            os.close(top_fd)

    def unconfirmed(
        self,
        path: bytes,
        before: Optional[Hashed] = None,
        *,
        progress: Optional[Progress] = None,
        on_change: Callable[[Scan], None] = lambda _: None,
        hashing: Optional[Hashing] = None,
    ) -> Tuple[Snapshot, Optional[Hashed]]:
        """The tree as one pass and the hashing after it found it; with what was hashed, if any.

        That counts only once a further `scan` has given the same signature; then, and not
        before, it may be kept. `before` is what came of a try that was not confirmed, and
        `on_change` gets the pass before the hashing.
        Raises as `snapshot` does.
        """
        top_fd = open_directory(path)
        try:
            first = scan(top_fd, self.local, path, self.helpers)
            cache = self.cache(first.device, first.inode)
            summary = cache.summary()
            if summary is not None and summary.signature == first.signature:
                later = _Later(cache, first, lambda: self.snapshot(path, fresh=True))
                return Snapshot(summary.revision, summary.totals, first, later, 0), None
            on_change(first)
            attempt = _Attempts(top_fd, cache, self.local, NO_VOUCHERS, progress, hashing)
            known = cache.directories() if before is None else before.for_retry()
            hashed = attempt.once(first, known, mount_of(path).stamp_margin_seconds)
            return hashed.snapshot, hashed
        finally:
            os.close(top_fd)

    def snapshot_private(
        self,
        path: bytes,
        before: Optional[Snapshot],
        touched: Collection[bytes],
        vouchers: Vouchers,
        progress: Optional[Progress] = None,
    ) -> Snapshot:
        """A tree that only this process writes to, after it did so.

        One pass is enough, and after an earlier look (`before`) only over what was
        touched since. What is remembered of it counts once `seconds_to_settle` are over:
        others may not get at it before.
        """
        top_fd = open_directory(path)
        try:
            if before is None:
                scanned = scan(top_fd, self.local, path, self.helpers)
            else:
                scanned = rescan(top_fd, self.local, before.scan, touched)
            cache = self.cache(scanned.device, scanned.inode)
            known = {} if before is None else before.known()
            attempt = _Attempts(top_fd, cache, self.local, vouchers, progress)
            hashed = attempt.once(scanned, known, 0.0)
            # Nobody else writes there: none of it can change and show the same stamps.
            hashed._replace(settled_ns=scanned.newest_ns).keep()
            return hashed.snapshot
        finally:
            os.close(top_fd)

    def seconds_to_settle(self, path: bytes, scanned: Scan) -> float:
        """How long until each further change of a tree shows other stamps than this scan saw."""
        return _seconds_to_settle(scanned, mount_of(path).stamp_margin_seconds)


class _Later:
    """What is known of an unchanged tree, read from the cache when somebody asks."""

    def __init__(self, cache: ContentCache, scanned: Scan, again: Callable[[], Snapshot]) -> None:
        self._cache = cache
        self._scan = scanned
        self._again = again
        self._known: Optional[Dict[bytes, Known]] = None

    def __call__(self) -> Dict[bytes, Known]:
        if self._known is None:
            found = self._cache.of_tree(self._scan.signature) or self._hashed()
            # One copy of the rows in memory: those of the scan.
            self._known = {
                path: known._replace(rows=self._scan.directories[path])
                for path, known in found.items()
            }
        return self._known

    def _hashed(self) -> Dict[bytes, Known]:
        """The cache is damaged, or replaced by another process that saw a later state."""
        snapshot = self._again()
        if snapshot.scan.signature != self._scan.signature:
            raise SourceRefused("it changed while it was read", hint="try again")
        return snapshot.known()


class _Attempts:
    """Hashes between two stat passes until they are equal, a bounded number of times."""

    def __init__(
        self,
        top_fd: int,
        cache: ContentCache,
        local: LocalPaths,
        vouchers: Vouchers,
        progress: Optional[Progress],
        hashing: Optional[Hashing] = None,
    ) -> None:
        self._top_fd = top_fd
        self._hashing = hashing
        self._cache = cache
        self._local = local
        self._vouchers = vouchers
        self._progress = progress
        self._hashed_bytes = 0

    def run(
        self, first: Scan, known: Dict[bytes, Known], margin_seconds: float, glance: bool
    ) -> Snapshot:
        for _ in range(ATTEMPTS):
            settled_ns = _let_stamps_settle(first, margin_seconds)
            build = self._build(first, known)
            directories = build.directories()
            self._hashed_bytes += build.hashed_bytes
            if glance:
                second = rescan(self._top_fd, self._local, first, build.changed)
            else:
                second = scan(self._top_fd, self._local)
            if second.signature == first.signature:
                _require_readable(self._top_fd, build.unreadable)
                return self._finish(first, directories, settled_ns)
            known = _for_retry(directories, settled_ns, build.unreadable)
            first = second
        raise SourceRefused(
            "it goes on changing while it is read", hint="wait until the installer is done"
        )

    def once(self, scanned: Scan, known: Dict[bytes, Known], margin_seconds: float) -> Hashed:
        """One attempt without a second pass."""
        settled_ns = _let_stamps_settle(scanned, margin_seconds)
        build = self._build(scanned, known)
        directories = build.directories()
        self._hashed_bytes += build.hashed_bytes
        _require_readable(self._top_fd, build.unreadable)
        return self._hashed(scanned, directories, settled_ns)

    def _build(self, scanned: Scan, known: Dict[bytes, Known]) -> Build:
        return Build(self._top_fd, scanned, known, self._vouchers, self._progress, self._hashing)

    def _finish(self, scanned: Scan, directories: Dict[bytes, Known], settled_ns: int) -> Snapshot:
        hashed = self._hashed(scanned, directories, settled_ns)
        hashed.keep()
        return hashed.snapshot

    def _hashed(self, scanned: Scan, directories: Dict[bytes, Known], settled_ns: int) -> Hashed:
        revision = combine({path: row.digest for path, row in directories.items()})
        totals = _totals(directories)
        snapshot = Snapshot(revision, totals, scanned, lambda: directories, self._hashed_bytes)
        return Hashed(snapshot, self._cache, settled_ns)


class Hashed(NamedTuple):
    """A snapshot for which files were read; those that changed after `settled_ns` may again."""

    snapshot: Snapshot
    cache: ContentCache
    settled_ns: int

    def keep(self) -> None:
        """Store it in the content cache."""
        snapshot, scanned = self.snapshot, self.snapshot.scan
        directories = snapshot.known()
        is_racy = scanned.newest_ns > self.settled_ns
        signature = b"" if is_racy else scanned.signature
        summary = Summary(
            signature, snapshot.revision, snapshot.totals, scanned.mode, scanned.mtime_ns
        )
        stored = _without_racy(directories, self.settled_ns) if is_racy else directories
        self.cache.store(summary, stored, synced=False)

    def for_retry(self) -> Dict[bytes, Known]:
        """What is worth knowing for another try after this one was not confirmed."""
        return _for_retry(self.snapshot.known(), self.settled_ns, [])


def _require_readable(top_fd: int, unreadable: List[bytes]) -> None:
    """Raise `StorageFailed` where a disk fails, `SourceRefused` where the user may not."""
    require_good_disk(top_fd, unreadable)
    if unreadable:
        raise SourceRefused(
            "files that may not be read",
            details=[os.fsdecode(path) for path in unreadable[:10]],
            hint="chmod u+r on them",
        )


def _let_stamps_settle(scanned: Scan, margin_seconds: float) -> int:
    """Wait until a further change of the newest file would show another stamp.

    The stamp up to which that is sure. Coarse stamps may be another machine's, whose clock
    need not agree with ours: there the wait is the whole margin, whatever the clocks say.
    """
    time.sleep(_seconds_to_settle(scanned, margin_seconds))
    if margin_seconds >= COARSE_MARGIN_SECONDS:
        return scanned.newest_ns
    return time.time_ns() - int(margin_seconds * 1e9)


def _seconds_to_settle(scanned: Scan, margin_seconds: float) -> float:
    if margin_seconds >= COARSE_MARGIN_SECONDS:
        return margin_seconds
    age_seconds = (time.time_ns() - scanned.newest_ns) / 1e9
    return margin_seconds - age_seconds if 0 <= age_seconds < margin_seconds else 0.0


def _without_racy(directories: Dict[bytes, Known], settled_ns: int) -> Dict[bytes, Known]:
    """The rows with such files unknown that changed too shortly before they were hashed."""
    kept: Dict[bytes, Known] = {}
    for path, known in directories.items():
        rows = unpack(known.rows)
        if any(row.ctime_ns > settled_ns for row in rows):
            rows = [row if row.ctime_ns <= settled_ns else row._replace(inode=0) for row in rows]
            kept[path] = known._replace(rows=pack(rows))
        else:
            kept[path] = known
    return kept


def _for_retry(
    directories: Dict[bytes, Known], settled_ns: int, unreadable: List[bytes]
) -> Dict[bytes, Known]:
    """What an attempt that failed has learnt for the next one.

    A file was hashed only where the inode was that of its row. But what could not be read,
    and the targets of links, may be those of a directory that was away for a moment and
    came back without a trace in their own status.
    """
    kept = _without_racy(directories, settled_ns)
    for path in {split(path)[0] for path in unreadable}:
        kept.pop(path, None)
    for path, known in kept.items():
        rows = unpack(known.rows)
        if any(stat.S_ISLNK(row.mode) for row in rows):
            rows = [row._replace(inode=0) if stat.S_ISLNK(row.mode) else row for row in rows]
            kept[path] = known._replace(rows=pack(rows))
    return kept


def _totals(directories: Dict[bytes, Known]) -> Totals:
    entries = sum(row_count(row.rows) for row in directories.values())
    files = sum(row.files for row in directories.values())
    return Totals(entries, files, sum(row.size_bytes for row in directories.values()))
