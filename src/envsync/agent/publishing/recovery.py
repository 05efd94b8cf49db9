"""Recovery from an interrupted switch: it is finished or forgotten.

Whatever was interrupted, one fact decides: which inode is at the name. If it is the new one, the
switch happened, and what follows it is done now. If it is another, the switch did not happen, and
the staging tree waits for the next push. If there is none, because a directory was about to become
a link, the previous version gets the name back.
"""

from __future__ import annotations

import os

from envsync.agent.places.live_name import LiveName
from envsync.agent.publishing.after_switch import Finalizer
from envsync.agent.publishing.base_install import resume_base_install
from envsync.agent.publishing.intent import DamagedIntent, Intent, find_intent, forget_intent
from envsync.agent.publishing.prune import record_orphaned_trees
from envsync.agent.publishing.switch_site import SwitchSite
from envsync.agent.publishing.switch_undo import SwitchUndo
from envsync.agent.wire.messages import KEPT
from envsync.errors import SourceRefused, StorageFailed
from envsync.files import whole


class Recovery:
    """Recovers one environment. The push lock must be held."""

    def __init__(self, site: SwitchSite) -> None:
        self._environment = site.environment
        self._layout, self._records, self._trees = site.environment
        self._name = LiveName(self._layout, site.on_step)
        self._undo = SwitchUndo(site.environment, self._name)
        self._finalizer = Finalizer(site, self._undo)

    def run(self) -> str:
        """Finish or forget the switch whose intent is on disk; return what was done.

        Raises `CheckFailed` if the switch had to be taken back.
        """
        try:
            intent = find_intent(self._layout)
        except DamagedIntent:
            # A live version without a record counts as changed by hand.
            record_orphaned_trees(self._environment)
            forget_intent(self._layout)
            return "the note of an interrupted switch was damaged"
        new, kept = intent.new, intent.kept
        if self._name.mend(intent.event.replaced_inode, new.inode):
            self._undo.abandon()
            return "an interrupted switch was undone"
        if self._layout.inode() != new.inode:
            is_replaced = kept is not None and self._records.tree(kept) is not None
            self._undo.abandon()
            if is_replaced:
                return "an interrupted switch had happened, and was undone by hand since"
            return "an interrupted switch had not happened"
        if intent.event.laid_in_from:
            resume_base_install(self._layout, intent.event.laid_in_from)
        whole.sync_directory(os.path.dirname(self._layout.live))
        self._protect_changed(intent)
        self._finalizer.finalize(intent)
        return "an interrupted switch was completed"

    def _protect_changed(self, switch: Intent) -> None:
        """Keep the replaced version for good if it was changed in the moment of the switch.

        Nobody compared it then, and now it is too late to switch back.
        """
        tree = self._undo.other_tree(switch)
        if tree is None:
            return
        record = self._records.at(os.lstat(tree).st_ino)
        if record is None:
            return
        # No source ever had the changed version.
        changed = record._replace(
            source_revision="",
            environment_id="",
            method=KEPT,
            kept_because="it was changed during a switch that was interrupted",
        )
        try:
            replaced = self._trees.snapshot(tree)
        except (SourceRefused, StorageFailed):
            # It keeps changing: nobody can say what it is, but it is not what it was.
            self._records.store(changed)
            return
        revision = replaced.revision
        if revision != switch.event.replaced_revision:
            changed = changed._replace(revision=revision, source_revision=revision)
            self._records.store(changed._replace(totals=replaced.totals), replaced.manifest())
