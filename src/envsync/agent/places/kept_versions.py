"""Whether a kept version is unchanged since it was published."""

from __future__ import annotations

from envsync.agent.places.records import Record
from envsync.agent.trees.trees import Trees
from envsync.tree.local import LocalPaths


def is_as_published(trees: Trees, tree: bytes, record: Record) -> bool:
    """Return whether the version is unchanged, by today's local paths or by those when published.

    What was local then was never part of that version, whatever the inventory says now. Raises the
    same errors as `Trees.snapshot`.
    """
    if trees.snapshot(tree).revision == record.revision:
        return True
    if not record.local or record.local == trees.local.patterns:
        return False
    return trees.by(LocalPaths(record.local)).snapshot(tree).revision == record.revision
