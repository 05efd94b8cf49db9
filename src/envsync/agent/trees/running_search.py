"""Searches for changes in trees, started ahead of time while other work goes on."""

from __future__ import annotations

import time
from functools import partial
from typing import Dict, NamedTuple, Optional, Tuple

from envsync.agent.trees.changes import ChangeSearch
from envsync.agent.trees.content_cache import ContentCache, partition_of
from envsync.agent.trees.scan_pass import Scan

_AGE_SECONDS_MAX = 2.0
"""An older search is discarded, because it may lack later changes."""


class RunningSearch(NamedTuple):
    """A running search, with the cached scan `before` and the `revision` that it starts from."""

    cache: ContentCache
    revision: str
    before: Scan
    search: ChangeSearch
    since_seconds: float

    def read_ahead(self) -> None:
        """Read the content cache of the tree meanwhile; it is needed if something changed."""
        self.cache.of_tree(self.before.signature)


class Searches:
    """The searches that were started ahead of time, each for one later look at its tree.

    A tree is identified by device and inode of its top directory.
    """

    def __init__(self) -> None:
        self._running: Dict[Tuple[int, int], RunningSearch] = {}

    def __contains__(self, tree: Tuple[int, int]) -> bool:
        return tree in self._running

    def add(self, tree: Tuple[int, int], running: RunningSearch) -> None:
        self._running[tree] = running

    def take(self, tree: Tuple[int, int]) -> Optional[RunningSearch]:
        """Return the search of that tree, to be continued now; None if there is none, or none any
        more because it was started too long ago.
        """
        running = self._running.pop(tree, None)
        if running is None or time.monotonic() - running.since_seconds <= _AGE_SECONDS_MAX:
            return running
        running.search.give_up()
        return None

    def read_ahead(self) -> None:
        """Read the content caches of the trees being searched, in case something changed."""
        for running in self._running.values():
            running.read_ahead()

    def give_up(self) -> None:
        """End all searches, as nobody asked for them."""
        while self._running:
            self._running.popitem()[1].search.give_up()


def begin(top_fd: int, path: bytes, cache: ContentCache) -> Optional[RunningSearch]:
    """Start a search if the cache has a scan to start from, else return None."""
    summary = cache.summary()
    if summary is None:
        return None
    before = summary.scan
    search = ChangeSearch(top_fd, path, before.moment, partial(partition_of, before))
    return RunningSearch(cache, summary.revision, before, search, time.monotonic())
