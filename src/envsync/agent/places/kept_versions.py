"""Whether a kept version is unchanged since it was published."""

from __future__ import annotations

from envsync.agent.places.records import Record
from envsync.agent.trees.trees import Trees
from envsync.tree.local import LocalPaths


def is_as_published(trees: Trees, tree: bytes, record: Record) -> bool:
    """Whether the version is unchanged, by the local paths of today or of when it was published.

    What has been local then was never of that version, whatever the inventory says since.
    Raises as `Trees.snapshot` does.
    """
    if trees.snapshot(tree).revision == record.revision:
        return True
    if not record.local or record.local == trees.local.patterns:
        return False
    return trees.by(LocalPaths(record.local)).snapshot(tree).revision == record.revision
