"""Searches for changes in trees, started ahead of time while other work goes on."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from envsync.agent.trees.changes import ChangeSearch
from envsync.agent.trees.content_cache import ContentCache, partition_of
from envsync.agent.trees.scan_pass import Scan

_AGE_SECONDS_MAX = 2.0
"""An older search is discarded, because it may lack later changes."""

_Key = Tuple[int, int]


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


def begin(top_fd: int, path: bytes, cache: ContentCache) -> Optional[RunningSearch]:
    """Start a search if the cache has a scan to start from, else return None."""
    summary = cache.summary()
    if summary is None:
        return None
    before = summary.scan
    search = ChangeSearch(top_fd, path, before.moment, partial(partition_of, before))
    return RunningSearch(cache, summary.revision, before, search, time.monotonic())


class RunningSearches:
    """The running searches, one per tree."""

    def __init__(self) -> None:
        self._running: Dict[_Key, RunningSearch] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, top_fd: int, path: bytes, cache_of: Callable[[int, int], ContentCache]) -> None:
        """Start to search a tree unless that was done; `cache_of` returns a tree's cache."""
        key = _key(top_fd)
        if key not in self._running:
            running = begin(top_fd, path, cache_of(*key))
            if running is not None:
                self._running[key] = running

    def take(self, top_fd: int) -> Optional[RunningSearch]:
        """Remove and return that tree's search; None if there is none or it is too old."""
        running = self._running.pop(_key(top_fd), None)
        if running is None or time.monotonic() - running.since_seconds <= _AGE_SECONDS_MAX:
            return running
        running.search.give_up()
        return None

    def read_ahead(self) -> None:
        """Read the content caches of all trees being searched."""
        for running in self._running.values():
            running.read_ahead()

    def give_up(self) -> None:
        """End all searches."""
        while self._running:
            self._running.popitem()[1].search.give_up()


def _key(top_fd: int) -> _Key:
    top = os.fstat(top_fd)
    return top.st_dev, top.st_ino
