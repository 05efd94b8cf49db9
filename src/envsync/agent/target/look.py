"""One look at a target's live version: what is there, and what is on record about it."""

from __future__ import annotations

from typing import NamedTuple, Optional

from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.records import Record, Records
from envsync.agent.trees.snapshot import Snapshot


class Look(NamedTuple):
    """The live version as it was found, and its record; None if there is no version, or no record.

    `recorded` is the record as it is on disk, `record` the same by the current local paths. The
    look began at `began_seconds` of the monotonic clock.
    """

    began_seconds: float
    live: Optional[Snapshot]
    recorded: Optional[Record]
    record: Optional[Record]

    @property
    def is_as_published(self) -> bool:
        """Whether the live version is what its record says."""
        live, record = self.live, self.record
        return live is not None and record is not None and record.revision == live.revision

    def record_if_replaced(self, *, keeps_live: bool) -> Optional[Record]:
        """Return the record as it will be once the version is replaced.

        It is kept if it was changed, and in any case if the push `keeps_live`.
        """
        if self.record is None or (self.is_as_published and not keeps_live):
            return self.record
        return self.record._replace(kept_because="it stays")


NOT_LOOKED = Look(0.0, None, None, None)


def look_with_record(
    environment: LocalEnvironment, began_seconds: float, live: Optional[Snapshot]
) -> Look:
    """Return the look that found this version, with what is on record now.

    The record is found by the top directory's inode; after a restore from a backup, by the content.
    """
    recorded = None if live is None else _recorded(environment.records, live)
    if live is None or recorded is None:
        return Look(began_seconds, live, None, None)
    return Look(began_seconds, live, recorded, environment.published(recorded, live.revision))


def _recorded(records: Records, live: Snapshot) -> Optional[Record]:
    record = records.at(live.scan.inode)
    if record is not None:
        return record
    same = [record for record in records.all() if record.revision == live.revision]
    return same[-1] if same else None


def with_inode_on_record(environment: LocalEnvironment, look: Look) -> Look:
    """Update the inode in the live version's record, if it was found by its content.

    Otherwise, once replaced, the version would be a tree without a record.
    """
    live, record, records = look.live, look.recorded, environment.records
    if live is None or record is None or record.inode == live.scan.inode:
        return look
    if records.tree(record) is not None:
        # The live version is a copy of an earlier one, which exists as well.
        record = record._replace(number=records.next_number(), kept_because="")
    record = record._replace(inode=live.scan.inode, local=environment.trees.local.patterns)
    records.store(record, live.manifest())
    return look._replace(recorded=record, record=record)


def with_local_off_record(environment: LocalEnvironment, look: Look) -> Look:
    """Take from the live version's record what is not its own any more because it is local now.

    To be called right before it is replaced or removed: once kept, it is compared with its record.
    Earlier would be too early: the pattern may be taken out of `local:` again.
    """
    live, record = look.live, look.record
    if live is None or record is None or not look.is_as_published or record == look.recorded:
        return look
    record = record._replace(local=environment.trees.local.patterns, totals=live.totals)
    environment.records.store(record, live.manifest())
    return look._replace(recorded=record, record=record)
