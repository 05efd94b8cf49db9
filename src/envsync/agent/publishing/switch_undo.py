"""Undoes a switch, and forgets one that did not happen."""

from __future__ import annotations

import contextlib
from typing import Optional, Tuple

from envsync.agent.places.live_name import LiveName
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.records import Record
from envsync.agent.publishing.intent import DamagedIntent, Intent, find_intent, forget_intent


class SwitchUndo:
    """Undoes the switch of one environment, whose intent is on disk. The push lock must be held."""

    def __init__(self, environment: LocalEnvironment, name: LiveName) -> None:
        self._layout, self._records, _ = environment
        self._name = name

    def give_back_to(self, tree: bytes) -> None:
        """Make the version that was switched out live again."""
        self._name.give_to(tree)
        self._name.sync()

    def take_back(self, switch: Intent) -> bool:
        """Undo a switch, which the caller still has to `abandon`.

        Returns whether an earlier version is live again; False if there was none.
        """
        previous = self.other_tree(switch)
        if previous is None:
            self._name.take_away()
        else:
            self.give_back_to(previous)
        return previous is not None

    def other_tree(self, switch: Intent) -> Optional[bytes]:
        """Return where the version that was switched out is, or None."""
        inode = switch.event.replaced_inode
        if inode is None or inode == switch.new.inode:
            return None
        return self._layout.trees_by_inode().get(inode)

    def abandon(self) -> None:
        """Forget a switch that did not happen, or was undone; staging stays for the next try.

        A version that was switched out and is not live again gets the record noted for it.
        """
        records: Tuple[Optional[Record], ...] = ()
        with contextlib.suppress(DamagedIntent):
            intent = find_intent(self._layout)
            records = intent.new, intent.kept
            if intent.kept is not None and self._records.tree(intent.kept) is not None:
                self._records.store(intent.kept)
        forget_intent(self._layout)
        for record in records:
            if record is not None:
                self._records.forget_unwritten(record)
