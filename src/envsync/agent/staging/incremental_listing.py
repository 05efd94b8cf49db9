"""Lists directories of a staging tree while it is being received, each once it is complete."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, List, NamedTuple

from envsync.agent.staging.writing import TreeWriter
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.listing_build import ListingBuild
from envsync.agent.trees.stat_rows import Row, pack, status_columns
from envsync.errors import EnvsyncError
from envsync.tree import listing as listings
from envsync.tree.entry import join, split
from envsync.tree.revision import CACHE_DIRECTORY
from envsync.tree.steps import Plan


class _Waiting(NamedTuple):
    """A directory, and the number of files after which it is complete with all below it."""

    files: int
    path: bytes


class IncrementalListing:
    """Listings of complete directories, made while others are still being received.

    The snapshot of the whole tree, which has to follow, reuses the listing of each directory that
    is then unchanged, and ignores the others.
    """

    def __init__(self, writer: TreeWriter, work: Plan) -> None:
        """`work` builds the tree from nothing; its files arrive in the plan's order."""
        self._writer = writer
        self._files = {path: listing for path, listing, _ in work.fetches.parts()}
        self._others = _others(work)
        self._entries = dict(work.directories)
        self._waiting = _waiting(work)
        self.known: Dict[bytes, Known] = {}

    def look(self, files: int) -> bool:
        """Stamp and list one directory complete after `files` files; return whether one was."""
        if not self._waiting or self._waiting[-1].files > files:
            return False
        path = self._waiting.pop().path
        # The snapshot of the whole tree will meet any error again, and report it.
        with contextlib.suppress(OSError, EnvsyncError, KeyError):
            self._writer.stamp(path, self._entries[path])
            if split(path)[1] != CACHE_DIRECTORY:
                self._look(path)
        return True

    def _look(self, path: bytes) -> None:
        """List a directory with its `__pycache__`, of which the sources decide what counts."""
        rows: Dict[bytes, bytes] = {}
        while path in self._entries:
            rows[path] = pack(self._rows(path))
            path = join(path, CACHE_DIRECTORY)
        build = ListingBuild(self._writer.top_fd, rows, {}, self._writer.written, None)
        self.known.update(build.directories())

    def _rows(self, directory: bytes) -> List[Row]:
        """Return the rows of a directory; for files, with the status that they had once written.

        Raises KeyError or FileNotFoundError if something did not arrive.
        """
        files = listings.names(self._files.get(directory, b""))
        rows = list(self._writer.written.rows(directory, files))
        for name in self._others.get(directory, ()):
            path, fd = join(directory, name), self._writer.top_fd
            status = os.stat(path, dir_fd=fd, follow_symlinks=False)
            rows.append(Row(name, *status_columns(status)))
        return sorted(rows)


def _others(work: Plan) -> Dict[bytes, List[bytes]]:
    """Return the names of directories and symlinks, by directory."""
    names: Dict[bytes, List[bytes]] = {}
    for path, _ in (*work.directories, *work.symlinks):
        directory, name = split(path)
        names.setdefault(directory, []).append(name)
    return names


def _waiting(work: Plan) -> List[_Waiting]:
    """Return directories in which nothing is done after their files arrive; the next one last."""
    complete = {path: 0 for path, _ in work.directories}
    files = 0
    for directory, _, count in work.fetches.parts():
        files += count
        if directory:
            complete[directory] = files
    # Longest first, because the paths below a directory are longer than its own.
    for path in sorted(complete, key=len, reverse=True):
        parent = split(path)[0]
        if parent:
            complete[parent] = max(complete[parent], complete[path])
    for link in work.links:
        _drop(complete, split(link.path)[0])
    # A directory's status is in the rows of its parent, which therefore comes after it.
    directories = [_Waiting(count, path) for path, count in complete.items()]
    return sorted(directories, key=lambda waiting: (-waiting.files, waiting.path.count(b"/")))


def _drop(complete: Dict[bytes, int], path: bytes) -> None:
    while path:
        complete.pop(path, None)
        path = split(path)[0]
