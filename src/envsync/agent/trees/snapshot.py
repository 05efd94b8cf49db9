"""A snapshot of a tree: what it was at one moment."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional

from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.content_cache import ContentCache, StoredRows
from envsync.agent.trees.scan_pass import Scan
from envsync.errors import SourceRefused
from envsync.tree.manifest import Manifest, Totals


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
        """Of the tree as it was then; made anew at each call."""
        listings = {path: known.listing for path, known in self.known().items()}
        return Manifest(listings, self.scan.mode, self.scan.mtime_ns)


class Later:
    """What is known of an unchanged tree, read from the cache when somebody asks.

    `again` looks at the tree once more, where the cache turns out to be of no use.
    """

    def __init__(self, cache: ContentCache, scanned: Scan, again: Callable[[], Snapshot]) -> None:
        self._cache = cache
        self._scan = scanned
        self._again = again
        self._known: Optional[Dict[bytes, Known]] = None

    def __call__(self) -> Dict[bytes, Known]:
        if self._known is None:
            found = self._cache.of_tree(self._scan.signature) or self._hashed()
            rows = self._scan.directories
            if not isinstance(rows, StoredRows):
                # One copy of the rows in memory: those of the scan.
                found = {path: known._replace(rows=rows[path]) for path, known in found.items()}
            self._known = found
        return self._known

    def _hashed(self) -> Dict[bytes, Known]:
        """The cache is damaged, or replaced by another process that saw a later state."""
        snapshot = self._again()
        if snapshot.scan.signature != self._scan.signature:
            raise SourceRefused("it changed while it was read", hint="try again")
        return snapshot.known()
