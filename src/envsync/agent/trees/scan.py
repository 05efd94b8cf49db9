"""Scans a directory tree for the status of every entry, opening nothing but directories.

The result is compact and comparable: each directory becomes the packed status of its
entries, and all of them together one signature. Two scans with the same signature found every
entry with the same name, kind, mode, inode, size, mtime, ctime and link count.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Collection, Dict, List, Optional, Tuple

from envsync.agent.server.helper_processes import NO_HELPERS, SCAN, HelperProcesses
from envsync.agent.trees.changes import Moment, Search
from envsync.agent.trees.content_cache import StoredRows, partition_of
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.scan_pass import DirectoriesOf, Scan, ScanPass, no_version
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

Share = Tuple[bytes, int, Tuple[str, ...], List[bytes], int]
"""A request to scan: a tree's path and inode, the local patterns, the directories, and the number
of entries after which to return."""


def scan(
    top_fd: int,
    local: LocalPaths,
    path: bytes = b"",
    helpers: HelperProcesses = NO_HELPERS,
    directories_of: DirectoriesOf = no_version,
) -> Scan:
    """Scan the tree below an open directory.

    Entries that vanish during the pass are left out; the pass after hashing notices that. A
    directory that cannot be read raises `SourceRefused`, or OSError if the disk is the reason. With
    `helpers`, the tree (which they open by its `path`) is divided among them. A directory that
    holds nothing but local paths counts as local itself, here and in the other scans, unless
    `directories_of` names it.
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
        share, found = self._busy.pop(number), self._helpers.finish(number)
        if found is None:
            # The helper died or failed, so its share has to be read by others.
            self._pending += share
            return
        *rows, left = found
        self._pass.merge(tuple(rows))
        self._pending += left
        self._idle.append(number)


def scan_share(share: Share) -> Optional[Tuple[object, ...]]:
    """Do a helper's part of a scan: return what `ScanPass.merge` takes, and the directories left.

    None means that the share has to be read by others.
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
    """Scan a tree again, taking over from the scan `before` what has not changed since.

    `search` is a search for changes that was started already; without one, a search is started,
    with more processes if it `is_urgent`. The other parameters are those of `scan`.
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
    return glance_again(top_fd, local, before, touched, directories_of, search.moment)


def rescan(
    top_fd: int,
    local: LocalPaths,
    before: Scan,
    touched: Collection[bytes],
    directories_of: DirectoriesOf = no_version,
) -> Scan:
    """Scan again only the directories that were `touched` in a tree that nobody else writes to.

    A directory is touched if an entry in it was created, removed or given another status.
    """
    # A directory's own status is in its parent's rows.
    parents = {split(_nearest(path, before.directories))[0] for path in touched}
    some = {*touched, *parents}
    return glance_again(top_fd, local, before, some, directories_of)


def glance_again(
    top_fd: int,
    local: LocalPaths,
    before: Scan,
    some: Collection[bytes],
    directories_of: DirectoriesOf = no_version,
    moment: Optional[Moment] = None,
) -> Scan:
    """Scan again the contents of some directories and of new ones below, and nothing else.

    Changes made after `moment`, by default that of the scan `before`, may be missing.
    """
    again = {_nearest(path, before.directories) for path in some}
    pass_ = ScanPass(top_fd, local, directories_of)
    pass_.resume(before, moment or before.moment, again)
    for path in sorted(again, key=len):
        pass_.again(path)
    found, stored = pass_.finish(), before.directories
    if found.signature == before.signature and isinstance(stored, StoredRows):
        return found._replace(directories=stored.as_compared())
    return found


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
