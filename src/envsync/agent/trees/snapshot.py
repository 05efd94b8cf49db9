"""A snapshot of a tree: its contents at one moment."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional

from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.content_cache import ContentCache, StoredRows
from envsync.agent.trees.scan_pass import Scan
from envsync.errors import SourceRefused
from envsync.tree.manifest import Manifest, Totals


class Snapshot(NamedTuple):
    """The contents of a tree at one moment.

    `hashed_bytes` is how much had to be read for it; the rest was known. `known` returns what
    is known of each directory; like `manifest`, it may have to read the content cache first.
    """

    revision: str
    totals: Totals
    scan: Scan
    known: Callable[[], Dict[bytes, Known]]
    hashed_bytes: int

    def manifest(self) -> Manifest:
        """Return the manifest of the tree as it was then; each call makes a new one."""
        listings = {path: known.listing for path, known in self.known().items()}
        return Manifest(listings, self.scan.mode, self.scan.mtime_ns)


class CachedDirectories:
    """What is known of the directories of an unchanged tree, read from the cache at the first call.

    `again` takes another snapshot, for the case that the cache turns out to be unusable.
    """

    def __init__(self, cache: ContentCache, scanned: Scan, again: Callable[[], Snapshot]) -> None:
        self._cache = cache
        self._scan = scanned
        self._again = again
        self._known: Optional[Dict[bytes, Known]] = None

    def __call__(self) -> Dict[bytes, Known]:
        if self._known is None:
            directories = self._cache.of_tree(self._scan.signature) or self._hashed()
            rows = self._scan.directories
            if not isinstance(rows, StoredRows):
                # Use the scan's rows, so that memory holds them only once.
                directories = {
                    path: known._replace(rows=rows[path]) for path, known in directories.items()
                }
            self._known = directories
        return self._known

    def _hashed(self) -> Dict[bytes, Known]:
        """Hash the tree again: the cache is damaged, or another process stored a later state."""
        snapshot = self._again()
        if snapshot.scan.signature != self._scan.signature:
            raise SourceRefused("it changed while it was read", hint="try again")
        return snapshot.known()
