"""Scans a directory tree for the status of every entry, opening nothing but directories.

The result is compact and comparable: each directory becomes the packed status of its
entries, and all of them together one signature. Two scans with the same signature found every
entry with the same name, kind, mode, inode, size, mtime, ctime and link count.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Collection, Dict, List, Optional, Tuple

from envsync.agent.server.helper_processes import SCAN
from envsync.agent.trees.changes import ChangeSearch, Moment
from envsync.agent.trees.content_cache import StoredRows, partition_of
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.open_tree import OpenTree
from envsync.agent.trees.scan_pass import Scan, ScanPass
from envsync.agent.trees.stat_rows import Row, bounded_ns, subdirectories
from envsync.errors import EnvsyncError
from envsync.tree.entry import join, split
from envsync.tree.local import LocalPaths

_BETWEEN_LOOKS = 16
"""Directories that the caller reads before it checks whether a helper has answered."""

SHARE_ENTRIES = 4000
"""A helper returns after this many, with the directories left over. How much lies below a
directory is unknown beforehand; this way, idle helpers can take over from busy ones."""

_TOUCHED_MIN, _ENTRIES_PER_TOUCHED = 16, 32
"""If more than about a quarter of the directories were touched, all are read, by several
processes."""

ScanShare = Tuple[bytes, int, Tuple[str, ...], List[bytes], int]
"""A request to scan: a tree's path and inode, the local patterns, the directories, and the number
of entries after which to return."""


def scan(tree: OpenTree) -> Scan:
    """Scan a tree.

    Entries that vanish during the pass are left out; the pass after hashing notices that. A
    directory that cannot be read raises `SourceRefused`, or OSError if the disk is the reason.
    """
    scan_pass = ScanPass(tree)
    if len(tree.helpers):
        _SharedPass(scan_pass, tree).run()
    else:
        scan_pass.whole()
    return scan_pass.finish()


class _SharedPass:
    """A pass that helpers take part in."""

    def __init__(self, scan_pass: ScanPass, tree: OpenTree) -> None:
        self._pass = scan_pass
        self._tree = tree.path, scan_pass.inode, tree.local.patterns
        self._helpers = tree.helpers
        self._pending: List[bytes] = [b""]
        self._idle = list(range(len(tree.helpers)))
        self._busy: Dict[int, List[bytes]] = {}

    def run(self) -> None:
        while self._pending or self._busy:
            self._hand_out()
            is_mine = self._helpers.caller_shares or not (self._busy or self._idle)
            if is_mine:
                self._read_some()
            if self._busy:
                may_wait = not (self._pending and is_mine)
                for number in self._helpers.answered(self._busy, may_wait):
                    self._collect(number)

    def _read_some(self) -> None:
        """Read a few of the pending directories, or just one while a helper is idle."""
        for _ in range(1 if self._idle else _BETWEEN_LOOKS):
            if self._pending:
                self._pending += self._pass.directory(self._pending.pop())

    def _hand_out(self) -> None:
        """Give each idle helper a share of what is pending: what was found first, near the top."""
        kept = int(self._helpers.caller_shares)
        while self._idle and len(self._pending) > kept:
            number = self._idle.pop()
            takers = kept + 1 + len(self._idle)
            count = -(-len(self._pending) // takers)
            share, self._pending = self._pending[:count], self._pending[count:]
            self._helpers.begin(number, (SCAN, (*self._tree, share, SHARE_ENTRIES)))
            self._busy[number] = share

    def _collect(self, number: int) -> None:
        share, answer = self._busy.pop(number), self._helpers.finish(number)
        if answer is None:
            # The helper died or failed, so its share has to be read by others.
            self._pending += share
            return
        *parts, left = answer
        self._pass.merge(tuple(parts))
        self._pending += left
        self._idle.append(number)


def scan_share(share: ScanShare) -> Optional[Tuple[object, ...]]:
    """Do a helper's part of a scan: return what `ScanPass.merge` takes, and the directories left.

    None means that the share has to be read by others.
    """
    path, inode, patterns, pending, entries_max = share
    try:
        with opened_directory(path) as top_fd:
            scan_pass = ScanPass(OpenTree(top_fd, LocalPaths(patterns)))
            if scan_pass.inode != inode:
                return None
            while pending and scan_pass.entries < entries_max:
                pending += scan_pass.directory(pending.pop())
            return (*scan_pass.parts(), pending)
    except (OSError, EnvsyncError):
        return None


def scan_since(
    tree: OpenTree, before: Scan, search: Optional[ChangeSearch] = None, *, is_urgent: bool = False
) -> Scan:
    """Scan a tree again, taking over from the scan `before` what has not changed since.

    `search` is a search for changes that was started already; without one, a search is started,
    with more processes if it `is_urgent`. Raises the errors of `scan`.
    """
    if search is None:
        parts = partial(partition_of, before)
        search = ChangeSearch(tree.top_fd, tree.path, before.moment, parts, is_urgent=is_urgent)
    touched = search.touched()
    if before.foreign:
        touched = None
    if touched is None or len(touched) > _TOUCHED_MIN + before.entries // _ENTRIES_PER_TOUCHED:
        return scan(tree)
    if not touched:
        return before._replace(moment=search.moment)
    return scan_only(tree, before, touched, search.moment)


def scan_touched(tree: OpenTree, before: Scan, touched: Collection[bytes]) -> Scan:
    """Scan again only the directories that were `touched` in a tree that nobody else writes to.

    A directory is touched if an entry in it was created, removed or given another status.
    """
    # A directory's own status is in its parent's rows.
    parents = {split(_nearest(path, before.directories))[0] for path in touched}
    return scan_only(tree, before, {*touched, *parents})


def scan_only(
    tree: OpenTree, before: Scan, some: Collection[bytes], moment: Optional[Moment] = None
) -> Scan:
    """Scan again the contents of some directories and of new ones below, and nothing else.

    Changes made after `moment`, by default that of the scan `before`, may be missing.
    """
    again = {_nearest(path, before.directories) for path in some}
    scan_pass = ScanPass(tree)
    scan_pass.resume(before, moment or before.moment, again)
    for path in sorted(again, key=len):
        scan_pass.again(path)
    now, stored = scan_pass.finish(), before.directories
    if now.signature == before.signature and isinstance(stored, StoredRows):
        return now._replace(directories=stored.as_compared())
    return now


def _nearest(path: bytes, directories: Collection[bytes]) -> bytes:
    """Return the directory, or the nearest one above it, for which the scan has rows."""
    while path and path not in directories:
        path = split(path)[0]
    return path


def are_directories_unchanged(top_fd: int, before: Scan) -> bool:
    """Return whether no entry was created, removed or renamed in the tree since a scan.

    This costs a fraction of a scan. It does not notice files that were written in place. False
    also if a directory's own status has changed.
    """
    top = os.fstat(top_fd)
    if (top.st_ino, bounded_ns(top.st_mtime_ns)) != (before.inode, before.mtime_ns):
        return False
    for path, packed in before.directories.items():
        for row in subdirectories(packed):
            if not _is_same(top_fd, join(path, row.name), row):
                return False
    return True


def _is_same(top_fd: int, path: bytes, row: Row) -> bool:
    try:
        now = os.stat(path, dir_fd=top_fd, follow_symlinks=False)
    except OSError:
        return False
    seen = row.mode, row.inode, row.mtime_ns, row.ctime_ns
    return seen == (now.st_mode, now.st_ino, now.st_mtime_ns, now.st_ctime_ns)
