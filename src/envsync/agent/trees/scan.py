"""Scans a directory tree: the status of every entry, nothing opened but directories.

The result is compact and comparable: each directory becomes the packed status of its
entries, and all of them one signature. Two scans with one signature saw no difference in
name, kind, mode, inode, size, mtime, ctime or link count of anything.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Collection, Dict, List, Optional, Tuple

from envsync.agent.server.helper_processes import SCAN, HelperProcesses, Share
from envsync.agent.trees.changes import Moment, Search
from envsync.agent.trees.content_cache import StoredRows, partition_of
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.scan_pass import DirectoriesOf, Scan, ScanPass, no_version
from envsync.agent.trees.stat_rows import Row, bounded_ns, subdirectories
from envsync.errors import EnvsyncError
from envsync.tree.entry import join, split
from envsync.tree.local import LocalPaths

_BETWEEN_LOOKS = 16
"""Directories that the caller reads before it looks whether somebody has answered."""

SHARE_ENTRIES = 4000
"""A helper comes back after so many, with what is left: nobody knows how much lies below a
directory, and whoever has nothing to do can then take from who has much."""

_TOUCHED_MIN, _ENTRIES_PER_TOUCHED = 16, 32
"""Where more than about a quarter of the directories was touched, all are read, by several
processes."""

NO_HELPERS = HelperProcesses()


def scan(
    top_fd: int,
    local: LocalPaths,
    path: bytes = b"",
    helpers: HelperProcesses = NO_HELPERS,
    directories_of: DirectoriesOf = no_version,
) -> Scan:
    """Scan the tree below an open directory.

    What vanishes during the pass is left out; the pass after hashing finds that out. A
    directory that may not be read raises `SourceRefused`. With `helpers`, the tree (which
    they open by its `path`) is divided among them. What is of a version by `directories_of` is
    not local for holding nothing but local paths; so in the other scans.
    """
    pass_ = ScanPass(top_fd, local, directories_of)
    if len(helpers):
        _Shared(pass_, path, local, helpers).run()
    else:
        pass_.below([b""])
    return pass_.finish()


class _Shared:
    """A pass that helpers take part in."""

    def __init__(
        self, pass_: ScanPass, path: bytes, local: LocalPaths, helpers: HelperProcesses
    ) -> None:
        self._pass = pass_
        self._tree = path, pass_.inode, local.patterns
        self._helpers = helpers
        self._pending: List[bytes] = [b""]
        self._idle = list(range(len(helpers)))
        self._busy: Dict[int, Tuple[int, List[bytes]]] = {}

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
        """A few of the directories that are pending; while a helper is idle, just one."""
        for _ in range(1 if self._idle else _BETWEEN_LOOKS):
            if self._pending:
                self._pending += self._pass.directory(self._pending.pop())

    def _hand_out(self) -> None:
        """Give who is idle its part of what is pending: what was found first, nearest the top."""
        kept = int(self._helpers.caller_shares)
        while self._idle and len(self._pending) > kept:
            number = self._idle.pop()
            takers = kept + 1 + len(self._idle)
            count = -(-len(self._pending) // takers)
            share, self._pending = self._pending[:count], self._pending[count:]
            ticket = self._helpers.begin(number, (SCAN, (*self._tree, share, SHARE_ENTRIES)))
            self._busy[number] = ticket, share

    def _collect(self, number: int) -> None:
        ticket, share = self._busy.pop(number)
        found = self._helpers.finish(number, ticket)
        if found is None:
            # It is gone, or could not: what it was given is ours again.
            self._pending += share
            return
        *rows, left = found
        self._pass.merge(tuple(rows))
        self._pending += left
        self._idle.append(number)


def scan_share(share: Share) -> Optional[Tuple[object, ...]]:
    """A helper's part of a scan, for `ScanPass.merge`, and the directories that it left.

    None where it has to be done elsewhere.
    """
    path, inode, patterns, pending, entries_max = share
    try:
        with opened_directory(path) as top_fd:
            pass_ = ScanPass(top_fd, LocalPaths(patterns))
            if pass_.inode != inode:
                return None
            while pending and pass_.entries < entries_max:
                pending += pass_.directory(pending.pop())
            rows = pass_.directories, pass_.local, pass_.special, pass_.foreign, pass_.newest_ns
            return (*rows, pending)
    except (OSError, EnvsyncError):
        return None


def scan_again(
    top_fd: int,
    local: LocalPaths,
    path: bytes,
    before: Scan,
    helpers: HelperProcesses = NO_HELPERS,
    search: Optional[Search] = None,
    directories_of: DirectoriesOf = no_version,
    *,
    is_urgent: bool = False,
) -> Scan:
    """Scan a tree of which an earlier scan is at hand: what has not changed since is believed.

    `search` is one that has been begun for it already; else one that `is_urgent` takes all
    processors. As `scan` otherwise.
    """
    if search is None:
        parts = partial(partition_of, before)
        search = Search(top_fd, path, before.moment, parts, is_urgent=is_urgent)
    touched = search.touched()
    if before.foreign:
        touched = None
    if touched is None or len(touched) > _TOUCHED_MIN + before.entries // _ENTRIES_PER_TOUCHED:
        return scan(top_fd, local, path, helpers, directories_of)
    if not touched:
        return before._replace(moment=search.moment)
    return _rescan(top_fd, local, before, touched, search.moment, directories_of)


def rescan(
    top_fd: int,
    local: LocalPaths,
    before: Scan,
    touched: Collection[bytes],
    directories_of: DirectoriesOf = no_version,
) -> Scan:
    """Scan again a tree that nobody else writes to: only the directories that were touched.

    Touched is every directory in which an entry was made, removed or stamped.
    """
    # A directory's own status stands in its parent's rows.
    parents = {split(_nearest(path, before.directories))[0] for path in touched}
    some = {*touched, *parents}
    return _rescan(top_fd, local, before, some, before.moment, directories_of)


def glance_again(
    top_fd: int,
    local: LocalPaths,
    before: Scan,
    some: Collection[bytes],
    directories_of: DirectoriesOf = no_version,
) -> Scan:
    """Scan again what is in some directories, and nothing else of the tree."""
    return _rescan(top_fd, local, before, some, before.moment, directories_of)


def _rescan(
    top_fd: int,
    local: LocalPaths,
    before: Scan,
    some: Collection[bytes],
    moment: Moment,
    directories_of: DirectoriesOf,
) -> Scan:
    again = {_nearest(path, before.directories) for path in some}
    pass_ = ScanPass(top_fd, local, directories_of)
    pass_.resume(before, moment, again)
    for path in sorted(again, key=len):
        pass_.again(path)
    found, stored = pass_.finish(), before.directories
    if found.signature == before.signature and isinstance(stored, StoredRows):
        return found._replace(directories=stored.as_compared())
    return found


def _nearest(path: bytes, directories: Collection[bytes]) -> bytes:
    """The directory, or the nearest one above it that the scan had rows of."""
    while path and path not in directories:
        path = split(path)[0]
    return path


def are_directories_unchanged(top_fd: int, before: Scan) -> bool:
    """Whether no directory has changed since a scan: nothing was made, removed or renamed.

    A fraction of a scan's cost. Files that were written to in place are not seen.
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
