"""Keeps a version whose check failed, if somebody changed it while it was live."""

from __future__ import annotations

import contextlib
from typing import Optional, Tuple

from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.records import TAKEN_BACK, Record
from envsync.agent.publishing.intent import Intent
from envsync.agent.publishing.prune import prune_duplicates
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.trees import Trees
from envsync.agent.wire.messages import KEPT
from envsync.conda.packages import may_be_of_package
from envsync.errors import SourceRefused, StorageFailed
from envsync.tree.difference import difference, digest_of_changes
from envsync.tree.manifest import Manifest


def keep_if_changed(environment: LocalEnvironment, switch: Intent) -> bool:
    """Keep the version that was switched out again, if it was changed; return whether it is kept.

    It was live for as long as its check took, or for days if the switch `is_recovered`. The next
    push would build over the changes made in it. Decision 1 says which changes count.
    """
    new, records = switch.new, environment.records
    tree = records.tree(new)
    if tree is None:
        return False
    kept = changed_by_hand(new)
    contents = _contents(environment.trees, tree)
    if contents is None:
        records.store(kept)
        return True
    snapshot, manifest = contents
    if snapshot.revision == new.revision:
        return False
    published = records.manifest(new)
    changes = ""
    if published is not None:
        differing = difference(published, manifest)
        is_work = switch.is_recovered or any(map(may_be_of_package, differing.paths))
        if not is_work:
            return False
        changes = digest_of_changes(manifest, differing)
    revision = snapshot.revision
    kept = kept._replace(revision=revision, source_revision=revision, own_changes=changes)
    kept = kept._replace(totals=snapshot.totals)
    records.store(kept, manifest)
    if changes:
        prune_duplicates(environment, kept)
    return True


def changed_by_hand(record: Record, because: str = TAKEN_BACK) -> Record:
    """Return the record that keeps a version which was changed, whatever it contains by now.

    No source ever had the changed version, so it is neither the one held nor the one published.
    """
    return record._replace(source_revision="", environment_id="", method=KEPT, kept_because=because)


def _contents(trees: Trees, tree: bytes) -> Optional[Tuple[Snapshot, Manifest]]:
    """Return what the tree is now; None if it keeps changing or cannot be read.

    Either way, it does not count as unchanged.
    """
    with contextlib.suppress(SourceRefused, StorageFailed):
        snapshot = trees.snapshot(tree)
        return snapshot, snapshot.manifest()
    return None
