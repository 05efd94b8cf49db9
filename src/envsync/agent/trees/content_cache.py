"""The content cache: earlier hashes by file status, in files in the user's cache.

There is one file for each tree and set of local paths. A tree is identified by device and inode of
its top directory, so its cache survives a rename. A row is valid only while inode, size, mtime and
ctime are unchanged (ctime may differ if a changed link count explains it and the inode is not known
to be newer than the row). A file that changed so shortly before it was hashed that a later change
could have the same timestamp gets no valid row. Rows are void after a reboot unless a sync of the
filesystem followed the hashing. A cache file that is damaged, or that another user could have
written, counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import (
    Callable,
    Dict,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    ValuesView,
)

from envsync.agent.server import machine
from envsync.agent.trees.cache_file import CacheFile, Head, Known, Seen
from envsync.agent.trees.changes import processes
from envsync.agent.trees.partition import Partition, partition
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.stat_rows import row_names, unpack
from envsync.agent.trees.tree_caches import cache_path, cache_paths
from envsync.conda import busy
from envsync.conda.metadata import HISTORY
from envsync.tree.entry import join
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Totals

_ANY_BOOT = "any"
_UNKNOWN_BOOT = "unknown"
_HISTORY_DIRECTORY = HISTORY.rpartition(b"/")[0]

BusyCandidates = Tuple[Tuple[bytes, int], ...]
"""Relative paths, each with the newer of its mtime and ctime in nanoseconds."""


class Summary(NamedTuple):
    """What is known of a whole tree, as the scan saw it."""

    revision: str
    totals: Totals
    scan: Scan


class CacheLost(Exception):
    """Raised if what the cache had of a tree when first asked is no longer there."""


class StoredRows(Mapping[bytes, bytes]):
    """The packed rows of each directory, as in a scan, read from the cache when first needed.

    `busy_candidates` and `partition` are derived from these rows but available without reading
    them. `compared` means that a further scan read some directories again and found no change.
    """

    def __init__(
        self,
        known: Callable[[], Dict[bytes, Known]],
        busy_candidates: BusyCandidates,
        partition: Partition,
        *,
        compared: bool = False,
    ) -> None:
        self._known = known
        self.busy_candidates = busy_candidates
        self.partition = partition
        self.compared = compared

    def as_compared(self) -> StoredRows:
        """Return these rows, marked as `compared`."""
        return StoredRows(self._known, self.busy_candidates, self.partition, compared=True)

    def __getitem__(self, path: bytes) -> bytes:
        return self._known()[path].rows

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def items(self) -> ItemsView[bytes, bytes]:
        """Return all items at once; the inherited view would ask the cache for each."""
        return {path: known.rows for path, known in self._known().items()}.items()

    def values(self) -> ValuesView[bytes]:
        """Return all values at once, as `items` does."""
        return {path: known.rows for path, known in self._known().items()}.values()


class ContentCache:
    """The cache of one tree. Neither reading nor writing raises OSError."""

    def __init__(self, directory: Optional[str], device: int, inode: int, local: LocalPaths):
        patterns = hashlib.sha256("\0".join(local.patterns).encode("utf-8", "replace"))
        path = cache_path(directory, (device, inode), patterns.hexdigest()[:12])
        self._file = CacheFile(path)
        self._directory, self._device, self._inode = directory, device, inode
        self._loaded: Optional[Tuple[str, Dict[bytes, Known]]] = None

    def summary(self) -> Optional[Summary]:
        """Return what is known of the whole tree, or None.

        The rows of its scan are read when first needed. That raises `CacheLost` if the file is
        damaged, or was replaced by another process that saw a later state.
        """
        head = self._file.head()
        if head is None or not head.signature or not _counts(head):
            return None
        try:
            scan = _scan(head, lambda: self._known(head.signature))
        except ValueError:
            return None
        scan = scan._replace(device=self._device, inode=self._inode)
        return Summary(head.revision, head.totals, scan)

    def _known(self, signature: str) -> Dict[bytes, Known]:
        directories = self._of_tree(signature)
        if not directories:
            raise CacheLost
        return directories

    def directories(self) -> Dict[bytes, Known]:
        """Return what is known of each directory; empty if nothing is or the file is damaged.

        It may be of an earlier state, or of other local paths: callers compare the rows.
        """
        if self._loaded is not None:
            return self._loaded[1]
        whole = self._file.whole() or self._of_other_local_paths()
        return {} if whole is None or not _counts(whole[0]) else whole[1]

    def _of_other_local_paths(self) -> Optional[Tuple[Head, Dict[bytes, Known]]]:
        """Return the newest cache of the tree under other patterns, as before `local:` was edited.

        What was hashed then need not be hashed again.
        """
        for path in cache_paths(self._directory, (self._device, self._inode)):
            whole = CacheFile(path).whole()
            if whole is not None:
                return whole
        return None

    def of_tree(self, signature: bytes) -> Dict[bytes, Known]:
        """Return what is known of the tree with that signature; empty if the cache has another."""
        return self._of_tree(signature.hex())

    def _of_tree(self, signature: str) -> Dict[bytes, Known]:
        if self._loaded is None or self._loaded[0] != signature:
            whole = self._file.whole()
            if whole is None or whole[0].signature != signature or not _counts(whole[0]):
                return {}
            self._loaded = signature, whole[1]
        return self._loaded[1]

    def store(
        self, summary: Summary, directories: Dict[bytes, Known], *, is_racy: bool = False
    ) -> None:
        """Replace what is known. If it `is_racy`, only the rows count, not the whole tree."""
        head = Head(
            "" if is_racy else summary.scan.signature.hex(),
            summary.revision,
            summary.totals,
            _seen(summary.scan),
            machine.boot_id() or _UNKNOWN_BOOT,
        )
        with contextlib.suppress(OSError):
            self._file.write(head, directories)

    def mark_synced(self) -> None:
        """Note that the filesystem was synced after the hashing, so the rows outlive a reboot."""
        self._file.change_head(lambda head: head._replace(boot=_ANY_BOOT))

    def seen_again(self, scan: Scan) -> None:
        """Note that a further scan had the stored signature: look for changes from that scan on."""

        def brought_up(head: Head) -> Head:
            is_same = head.signature == scan.signature.hex()
            return head._replace(seen=_seen(scan)) if is_same else head

        self._file.change_head(brought_up)

    def forget(self) -> None:
        """Remove the cache file."""
        self._file.remove()


def _counts(head: Head) -> bool:
    """Return whether the rows are valid in this boot."""
    return head.boot in (_ANY_BOOT, machine.boot_id())


def _seen(scan: Scan) -> Seen:
    candidates, divided = busy_candidates_of(scan), partition_of(scan)
    return Seen(
        mode=scan.mode,
        mtime_ns=scan.mtime_ns,
        entries=scan.entries,
        newest_ns=scan.newest_ns,
        moment=scan.moment,
        local=_texts(scan.local),
        special=_texts(scan.special),
        foreign=_texts(scan.foreign),
        busy_paths=_texts(path for path, _ in candidates),
        busy_times_ns=tuple(time_ns for _, time_ns in candidates),
        parts=tuple(map(_texts, divided.parts)),
        upper=_texts(divided.upper),
    )


def _scan(head: Head, known: Callable[[], Dict[bytes, Known]]) -> Scan:
    """Return the scan that a head was written for; ValueError if its texts are malformed."""
    seen = head.seen
    candidates = tuple(zip(_paths(seen.busy_paths), seen.busy_times_ns))
    divided = Partition(tuple(map(_paths, seen.parts)), _paths(seen.upper))
    return Scan(
        directories=StoredRows(known, candidates, divided),
        mode=seen.mode,
        mtime_ns=seen.mtime_ns,
        device=0,
        inode=0,
        local=_paths(seen.local),
        special=_paths(seen.special),
        foreign=_paths(seen.foreign),
        entries=seen.entries,
        newest_ns=seen.newest_ns,
        signature=bytes.fromhex(head.signature),
        moment=seen.moment,
    )


def busy_candidates_of(scan: Scan) -> BusyCandidates:
    """Return the paths in a scanned tree that could be signs of an installer (`busy.signs`)."""
    rows = scan.directories
    return rows.busy_candidates if isinstance(rows, StoredRows) else tuple(_candidates(rows))


def _candidates(directories: Mapping[bytes, bytes]) -> Iterator[Tuple[bytes, int]]:
    for directory, packed in directories.items():
        names = row_names(packed)
        is_told = b"~" in directory or b".condatmp" in directory or directory == _HISTORY_DIRECTORY
        if is_told or b"~" in names or b".condatmp" in names:
            for row in unpack(packed):
                path = join(directory, row.name)
                if busy.is_sign(path):
                    yield path, max(row.mtime_ns, row.ctime_ns)


def partition_of(scan: Scan) -> Partition:
    """Return how several processes divide a scanned tree when they search it for changes."""
    rows = scan.directories
    if isinstance(rows, StoredRows):
        return rows.partition
    return partition(rows) if processes(is_urgent=True) > 1 else Partition()


def _texts(paths: Iterable[bytes]) -> Tuple[str, ...]:
    return tuple(map(os.fsdecode, paths))


def _paths(texts: Iterable[str]) -> Tuple[bytes, ...]:
    return tuple(map(os.fsencode, texts))
