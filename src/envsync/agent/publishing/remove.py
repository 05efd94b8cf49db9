"""Removes an environment: the live version becomes a generation, until `gc`.

A note is on disk before the one rename, and is removed when everything after it is done. If a crash
comes between, `recover` asks whether the version is among the earlier ones: if so, what follows the
rename is done then; otherwise nothing happened.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple, Optional

from envsync.agent.places.busy_findings import require_no_installer
from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.places.layout import REMOVAL
from envsync.agent.places.live_name import LiveName
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.locks import PushLock
from envsync.agent.places.records import Record
from envsync.agent.places.state_files import read_checked, remove_file, write_checked
from envsync.agent.publishing.prune import record_orphaned_trees
from envsync.agent.publishing.switch_failures import REMOVED, failure_after_switch
from envsync.agent.server.filesystem import exists
from envsync.agent.server.progress import SWITCH, OnStep
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.errors import AgentFailed, TargetDrifted


class RemovalOrder(NamedTuple):
    """What to remove, as it was found, the record by which it is kept, and who removes it."""

    expected: Snapshot
    record: Record
    is_new_record: bool
    by: str


class _Note(NamedTuple):
    """What is needed to finish a removal: which of `trees` the version becomes, and what is said of
    it."""

    record: Record
    event: HistoryEvent
    token: str


class Remover:
    """Removes one environment. The push lock must be held."""

    def __init__(self, environment: LocalEnvironment, lock: PushLock, on_step: OnStep) -> None:
        self._environment, self._lock, self._on_step = environment, lock, on_step
        self._layout, self._records, self._trees = environment
        self._name = LiveName(self._layout)

    def run(self, removal: RemovalOrder) -> Record:
        """Remove it. Raises `TargetDrifted`, and leaves it live, if it changed or is changing.

        It is left live as well if it cannot be moved. If the disk fails afterwards, the error says
        that it is removed.
        """
        require_no_installer(
            self._layout, "nothing was removed", hint="remove it when the installer has ended there"
        )
        if removal.is_new_record:
            self._records.store_manifest(removal.record.number, removal.expected.manifest())
        event = HistoryEvent(
            event="remove",
            who=removal.by,
            when_seconds=time.time(),
            source=removal.record.source,
            source_revision=removal.record.source_revision,
            number=removal.record.number,
            revision=removal.record.revision,
            replaced_revision=removal.expected.revision,
        )
        note = _Note(removal.record, event, token=os.urandom(8).hex())
        write_checked(self._layout.file(REMOVAL), to_json(note))
        try:
            self._lock.sync()
            self._on_step(SWITCH)
            tree = self._name.take_away(note.token)
            self._on_step("switched")
            self._compare(removal, tree)
            return self._finish(note)
        except OSError as error:
            inode = self._layout.inode()
            if inode == removal.expected.scan.inode:
                with contextlib.suppress(OSError):
                    self._give_up(removal.record)
            failure = failure_after_switch(error, REMOVED) if inode is None else None
            if failure is None:
                raise
            raise failure from error

    def _compare(self, removal: RemovalOrder, tree: bytes) -> None:
        """Require that what was taken away is what was inspected; else give its name back."""
        if self._trees.is_unchanged(tree, removal.expected):
            return
        self._name.give_to(tree, is_free=True)
        self._name.sync()
        self._give_up(removal.record)
        raise TargetDrifted(
            "the environment was changed there during the removal, which was undone",
            hint="run the same command again",
        )

    def _finish(self, note: _Note) -> Record:
        """Do everything that follows the rename. May be run again after a crash."""
        record = note.record
        self._on_step("record")
        self._records.store(record)
        self._records.history.log(note.event)
        remove_file(self._layout.file(REMOVAL))
        return record

    def _give_up(self, record: Record) -> None:
        remove_file(self._layout.file(REMOVAL))
        self._records.forget_unwritten(record)

    def recover(self) -> Optional[str]:
        """Finish or forget a removal that was interrupted; return what was done, or None."""
        try:
            note = from_json(_Note, read_checked(self._layout.file(REMOVAL)))
            taken = self._layout.tree(note.token)
        except (AgentFailed, ValueError):
            return self._without_note()
        record = note.record
        if self._took_another(record, taken):
            done = "an interrupted removal was undone"
        elif self._records.tree(record) is not None:
            self._name.sync()
            self._finish(note)
            return "an interrupted removal was completed"
        else:
            done = "an interrupted removal had not happened"
        self._give_up(record)
        return done

    def _took_another(self, record: Record, tree: bytes) -> bool:
        """Return whether another tree was taken away, which had just replaced the one to remove.

        It gets its name back; if the name is taken again, it is kept.
        """
        if not exists(tree) or os.lstat(tree).st_ino == record.inode:
            return False
        try:
            self._name.give_to(tree, is_free=True)
            self._name.sync()
        except FileExistsError:
            because = "an interrupted removal had moved it away"
            record_orphaned_trees(self._environment, because)
        return True

    def _without_note(self) -> Optional[str]:
        """Keep what has no record if the note is damaged; return None if there is no note."""
        path = self._layout.file(REMOVAL)
        if not os.path.lexists(path):
            return None
        record_orphaned_trees(self._environment)
        with contextlib.suppress(OSError):
            remove_file(path)
        return "the note of an interrupted removal was damaged"
