"""Recovery from an interrupted switch: it is finished or forgotten.

Whatever was interrupted, one fact decides: which inode is at the name. If it is the new one, the
switch happened, and what follows it is done now. If it is another, the switch did not happen, and
the staging tree waits for the next push. If there is none, because a directory was about to become
a link, the previous version gets the name back.
"""

from __future__ import annotations

import os

from envsync.agent.places.live_name import LiveName
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.publishing.after_switch import AfterSwitch
from envsync.agent.publishing.base_install import resume_base_install
from envsync.agent.publishing.failed_version import changed_by_hand
from envsync.agent.publishing.intent import DamagedIntent, find_intent, forget_intent
from envsync.agent.publishing.prune import record_orphaned_trees
from envsync.agent.server.progress import OnStep
from envsync.errors import SourceRefused, StorageFailed
from envsync.files import whole


def recover_switch(environment: LocalEnvironment, on_step: OnStep) -> str:
    """Finish or forget the switch whose intent is on disk; return what was done.

    The push lock must be held. Raises `CheckFailed` if the switch had to be taken back.
    """
    layout, records, _ = environment
    try:
        intent = find_intent(layout)
    except DamagedIntent:
        # A live version without a record counts as changed by hand.
        record_orphaned_trees(environment)
        forget_intent(layout)
        return "the note of an interrupted switch was damaged"
    after = AfterSwitch(environment, on_step)
    new, kept, _, event = intent
    if LiveName(layout).mend(event.replaced_inode, new.inode):
        after.abandon()
        return "an interrupted switch was undone"
    if layout.inode() != new.inode:
        is_replaced = kept is not None and records.tree(kept) is not None
        after.abandon()
        if is_replaced:
            return "an interrupted switch had happened, and was undone by hand since"
        return "an interrupted switch had not happened"
    if event.laid_in_from:
        resume_base_install(layout, event.laid_in_from)
    whole.sync_directory(os.path.dirname(layout.live))
    replaced = after.other_tree(intent)
    if replaced is not None:
        _protect_changed(environment, replaced, event.replaced_revision)
    after.finalize(intent)
    return "an interrupted switch was completed"


def _protect_changed(environment: LocalEnvironment, tree: bytes, expected_revision: str) -> None:
    """Keep the replaced version for good if it was changed in the moment of the switch.

    Nobody compared it then, and now it is too late to switch back.
    """
    records = environment.records
    record = records.at(os.lstat(tree).st_ino)
    if record is None:
        return
    changed = changed_by_hand(record, "it was changed during a switch that was interrupted")
    try:
        replaced = environment.trees.snapshot(tree)
    except (SourceRefused, StorageFailed):
        # It keeps changing: nobody can say what it is, but it is not what it was.
        records.store(changed)
        return
    revision = replaced.revision
    if revision != expected_revision:
        changed = changed._replace(
            revision=revision, source_revision=revision, totals=replaced.totals
        )
        records.store(changed, replaced.manifest())
