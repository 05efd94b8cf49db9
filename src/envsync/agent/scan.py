"""One pass over a directory tree: the status of every entry, nothing opened but directories.

The result is compact and comparable: each directory becomes the packed status of its
entries, and all of them one signature. Two scans with one signature saw no difference in
name, kind, mode, inode, size, mtime, ctime or link count of anything.
"""

from __future__ import annotations

import os
from typing import Collection, List, Optional, Tuple

from envsync.agent.scan_helpers import ScanHelpers, Share
from envsync.agent.scan_pass import Scan, ScanPass, open_directory
from envsync.errors import EnvsyncError
from envsync.tree.entry import split
from envsync.tree.local import LocalPaths

SHARED_DIRECTORIES_MIN = 48
"""With fewer directories in sight, dividing them takes longer than reading them."""

NO_HELPERS = ScanHelpers()


def scan(
    top_fd: int, local: LocalPaths, path: bytes = b"", helpers: ScanHelpers = NO_HELPERS
) -> Scan:
    """Scan the tree below an open directory.

    What vanishes during the pass is left out; the pass after hashing finds that out. A
    directory that may not be read raises `SourceRefused`. With `helpers`, the tree (which
    they open by its `path`) is divided among them where it is large.
    """
    pass_ = ScanPass(top_fd, local)
    pending = [b""]
    while pending:
        if len(helpers) and len(pending) >= SHARED_DIRECTORIES_MIN:
            pending = _divide(pass_, pending, path, local, helpers)
        else:
            # First in, first out while few are known: breadth makes equal shares.
            pending += pass_.directory(pending.pop(0 if len(helpers) else -1))
    return pass_.finish()


def _divide(
    pass_: ScanPass, pending: List[bytes], path: bytes, local: LocalPaths, helpers: ScanHelpers
) -> List[bytes]:
    """Scan everything below the pending directories, each a share; () in the end."""
    count = len(helpers) + helpers.caller_shares
    shares = [pending[number::count] for number in range(count)]
    tickets = [
        helpers.begin(number, (path, pass_.inode, local.patterns, shares[number]))
        for number in range(len(helpers))
    ]
    if helpers.caller_shares:
        pass_.below(shares.pop())
    for number, share in enumerate(shares):
        found = helpers.finish(number, tickets[number])
        if found is None:
            pass_.below(share)
        else:
            pass_.merge(found)
    return []


def scan_share(share: Share) -> Optional[Tuple[object, ...]]:
    """A helper's part of a scan, for `ScanPass.merge`; None where it has to be done elsewhere."""
    path, inode, patterns, directories = share
    try:
        top_fd = open_directory(path)
        try:
            pass_ = ScanPass(top_fd, LocalPaths(patterns))
            if pass_.inode != inode:
                return None
            pass_.below(directories)
            return pass_.directories, pass_.local, pass_.special, pass_.foreign, pass_.newest_ns
        finally:
            os.close(top_fd)
    except (OSError, EnvsyncError):
        return None


def rescan(top_fd: int, local: LocalPaths, before: Scan, touched: Collection[bytes]) -> Scan:
    """Scan again a tree that nobody else writes to: only the directories that were touched.

    Touched is every directory in which an entry was made, removed or stamped.
    """
    pass_ = ScanPass(top_fd, local)
    pass_.resume(before)
    # A directory's own status stands in its parent's rows.
    again = set(touched) | {split(path)[0] for path in touched}
    for path in sorted(again, key=len):
        if path in pass_.directories:
            pass_.again(path)
    return pass_.finish()
