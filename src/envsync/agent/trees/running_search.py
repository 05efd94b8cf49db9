"""A search for changes in a tree, started ahead of time while other work goes on."""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple, Optional

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

    def is_too_old(self) -> bool:
        return time.monotonic() - self.since_seconds > _AGE_SECONDS_MAX

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
