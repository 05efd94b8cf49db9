"""A snapshot of a tree: its contents at one moment."""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, Dict, NamedTuple

from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.content_cache import ContentCache, StoredRows
from envsync.agent.trees.scan_pass import Scan
from envsync.errors import Hint, SourceRefused
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


def cached_directories(
    cache: ContentCache, scanned: Scan, again: Callable[[], Snapshot]
) -> Callable[[], Dict[bytes, Known]]:
    """Return a function that reads, once, what the cache knows of an unchanged tree's directories.

    `again` takes another snapshot, for the case that the cache turns out to be unusable.
    """

    @lru_cache(maxsize=None)
    def known() -> Dict[bytes, Known]:
        directories = cache.of_tree(scanned.signature) or hashed()
        rows = scanned.directories
        if isinstance(rows, StoredRows):
            return directories
        # Use the scan's rows, so that memory holds them only once.
        return {path: found._replace(rows=rows[path]) for path, found in directories.items()}

    def hashed() -> Dict[bytes, Known]:
        """Hash the tree again: the cache is damaged, or another process stored a later state."""
        snapshot = again()
        if snapshot.scan.signature != scanned.signature:
            raise SourceRefused("it changed while it was read", hint=Hint("[[try again]]"))
        return snapshot.known()

    return known
