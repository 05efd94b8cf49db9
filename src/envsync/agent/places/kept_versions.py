"""Earlier versions: which of them `keep` covers, and whether one is unchanged."""

from __future__ import annotations

from typing import List, Optional, Sequence

from envsync.agent.places.records import Record
from envsync.agent.trees.trees import Trees
from envsync.tree.local import LocalPaths


def beyond_keep(
    earlier: Sequence[Record], keep: int, live: Optional[Record], replaced: Optional[int] = None
) -> List[Record]:
    """Return the earlier versions, given oldest first, that `keep` does not cover, the first to go
    first.

    One with the content of the `live` version goes before all others: going back to it would change
    nothing. The one with the inode `replaced`, which was live until now, goes last: after a
    rollback it may be the oldest.
    """
    revision = None if live is None else live.revision
    in_order = sorted(earlier, key=lambda r: (r.revision != revision, r.inode == replaced))
    return in_order[: max(0, len(in_order) - keep)]


def is_as_published(trees: Trees, tree: bytes, record: Record) -> bool:
    """Return whether the version is unchanged, by today's local paths or by those when published.

    What was local then was never part of that version, whatever the inventory says now. Raises the
    same errors as `Trees.snapshot`.
    """
    if trees.snapshot(tree).revision == record.revision:
        return True
    if record.local == trees.local.patterns:
        return False
    return trees.by(LocalPaths(record.local)).snapshot(tree).revision == record.revision
