"""Taking an environment away: what stood at the name becomes a generation, until `gc`.

A note is on disk before the one rename, and goes when everything after it is done. Whatever
dies in between, `recover` asks whether the version still stands at the name: if so nothing
happened, else what follows the rename is done now. The push lock must be held.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple

from envsync.agent.layout import read_json, remove, write_json
from envsync.agent.live_name import LiveName
from envsync.agent.locks import PushLock
from envsync.agent.records import Record, record_from_json
from envsync.agent.signs import installer_findings
from envsync.agent.snapshot import Snapshot
from envsync.errors import TargetDrifted

if TYPE_CHECKING:
    from envsync.agent.target import Target

NOTE = "removal.json"


class Leave(NamedTuple):
    """What is to be taken away, as it was found, and the record that it is kept by."""

    expected: Snapshot
    record: Record
    is_new_record: bool
    by: str


class TakingAway:
    def __init__(self, target: Target, lock: PushLock) -> None:
        self._target = target
        self._places = target.places
        self._lock = lock
        self._name = LiveName(target.places)

    def run(self, leave: Leave) -> Record:
        """Take it away; `TargetDrifted`, and it stands there still, where it changed meanwhile."""
        at_work = installer_findings(self._places)
        if at_work:
            raise TargetDrifted(
                "%s; nothing was removed" % at_work[0].message,
                hint="remove it when the installer is done there",
            )
        if leave.is_new_record:
            self._target.records.store_manifest(leave.record.number, leave.expected.manifest())
        event = {
            "event": "remove",
            "who": leave.by,
            "source": leave.record.source,
            "source_revision": leave.record.source_revision,
            "revision": leave.record.revision,
            "number": leave.record.number,
            "when_seconds": time.time(),
            "replaced_revision": leave.expected.revision,
        }
        note: Dict[str, Any] = {"record": leave.record.to_json(), "event": event}
        write_json(self._places.file(NOTE), {**note, "digest": _digest(note)})
        self._lock.sync()
        self._target.on_step("switch")
        self._name.take_away()
        self._target.on_step("switched")
        self._compare(leave)
        return self._finish(leave.record, event)

    def _compare(self, leave: Leave) -> None:
        """What was taken away must be what was looked at; else it gets its name back."""
        tree = self._target.records.tree(leave.record)
        if tree is None:
            return
        trees, expected = self._target.trees, leave.expected
        if trees.scan(tree).signature == expected.scan.signature:
            return
        if trees.snapshot(tree).revision == expected.revision:
            return
        self._name.give_to(tree)
        self._name.sync()
        self._give_up(leave.record, is_new=leave.is_new_record)
        raise TargetDrifted(
            "the environment was changed there in the moment of the removal, which was undone",
            hint="run the same command again",
        )

    def _finish(self, record: Record, event: Dict[str, Any]) -> Record:
        """Everything that follows the rename; may be run again after a crash."""
        self._target.on_step("record")
        self._target.records.store(record)
        self._target.records.log(event)
        # What a person took away, nobody brings back unasked.
        self._target.records.hold(record.source_revision, "removed by %s" % event.get("who"))
        remove(self._places.file(NOTE))
        return record

    def _give_up(self, record: Record, *, is_new: bool) -> None:
        remove(self._places.file(NOTE))
        if is_new:
            self._target.records.forget(record)

    def recover(self) -> Optional[str]:
        """Finish or forget a removal that was interrupted; what was done, or None."""
        document = read_json(self._places.file(NOTE))
        try:
            record, event = _read(document)
        except (KeyError, TypeError, ValueError):
            return self._without_note()
        known = {other.number for other in self._target.records.all()}
        if self._places.inode() is not None:
            self._give_up(record, is_new=record.number not in known)
            return "an interrupted removal had not happened"
        self._name.sync()
        self._finish(record, event)
        return "an interrupted removal was completed"

    def _without_note(self) -> Optional[str]:
        """A damaged note: what stands without a record is kept, as after a damaged intent."""
        from envsync.agent.surplus import keep_unrecorded

        path = self._places.file(NOTE)
        if not os.path.lexists(path):
            return None
        keep_unrecorded(self._places, self._target.trees, self._target.records)
        with contextlib.suppress(OSError):
            remove(path)
        return "the note of an interrupted removal was damaged"


def _read(document: Any) -> Tuple[Record, Dict[str, Any]]:
    """What a note says; ValueError, KeyError or TypeError where it is damaged."""
    note = {"record": document["record"], "event": document["event"]}
    if document["digest"] != _digest(note):
        raise ValueError("damaged")
    return record_from_json(note["record"]), dict(note["event"])


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
