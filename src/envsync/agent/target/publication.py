"""Makes the records, history lines and switches of publications: who, from where, when and how."""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple, Optional, Tuple

from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.places.kept_versions import found_record
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.records import Record
from envsync.agent.publishing.guarded_switch import Switch
from envsync.agent.target.inspection import record_facts
from envsync.agent.target.look import Look, with_local_off_record
from envsync.agent.target.target import Target
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.build_operations import Publication
from envsync.agent.wire.messages import RecordFacts
from envsync.errors import AgentFailed, EnvsyncError, TargetDrifted, listed
from envsync.tree.difference import difference


class VerifiedTree(NamedTuple):
    """A version that was built at `tree` and hashed. `share` is what a group may do with it, or "".

    From `settled_seconds` of the monotonic clock on, a change to it would show another timestamp.
    """

    tree: bytes
    version: Snapshot
    settled_seconds: float
    share: str


def switch_to(
    target: Target, verified: VerifiedTree, publication: Publication, *, keeps_live: bool
) -> Switch:
    """Return the switch from the live version to the one that was built.

    With `keeps_live`, the live one stays for good: the source never had it.
    """
    look, version = with_local_off_record(target.environment, target.last_look), verified.version
    kept = kept_record(target.environment, look, publication.who, keeps_live=keeps_live)
    number = target.records.next_number()
    if kept is not None and kept.number == number:
        number += 1
    local = target.trees.local.patterns
    return Switch(
        staged=verified.tree,
        new=new_record(number, version, publication, local, target.keep, verified.share),
        expected=look.live,
        inspected_seconds=look.began_seconds,
        kept=kept,
        event=event_of("publish", publication, look.live),
        manifest=version.manifest(),
        check=publication.check,
        not_before_seconds=verified.settled_seconds,
        installs_base=target.is_base and look.live is None and os.path.isdir(target.layout.live),
    )


def new_record(
    number: int,
    version: Snapshot,
    publication: Publication,
    local: Tuple[str, ...],
    keep: int,
    share: Optional[str] = None,
) -> Record:
    """Return the record of a version that a publication makes live, or that is live already.

    `local` are the patterns that it was scanned with. `keep` is how many earlier versions the push
    leaves. `share` is what it was built for a group to do; None if it was not built now.
    """
    return Record(
        number=number,
        revision=version.revision,
        source_revision=publication.source_revision,
        inode=version.scan.inode,
        who=publication.who,
        source=publication.source,
        when_seconds=time.time(),
        method=publication.method,
        transport=publication.transport,
        totals=version.totals,
        local=local,
        share=share,
        environment_id=publication.environment_id,
        keep=keep,
    )


def adopt(target: Target, publication: Publication) -> RecordFacts:
    """Record a live version that is the source's, byte for byte.

    To be called after `Target.inspect(lock=True)`.
    """
    target.require_lock()
    live = target.live
    if live is None:
        raise AgentFailed("there is nothing to put on record")
    adopted = publication._replace(method="adopt", transport="")
    local = target.trees.local.patterns
    record = new_record(target.records.next_number(), live, adopted, local, target.keep)
    target.records.store(record, live.manifest())
    event = event_of("adopt", publication, live)
    target.records.history.log(event._replace(number=record.number, revision=record.revision))
    return record_facts(record)


def kept_record(
    environment: LocalEnvironment,
    look: Look,
    by: str,
    what: str = "overwritten",
    *,
    keeps_live: bool = False,
) -> Optional[Record]:
    """Return a record for a live version that has none or was changed, so that nothing is lost.

    If the push `keeps_live`, an existing record gets the reason to keep it. None if no new record
    is needed.
    """
    live, current = look.live, look.record
    if live is None:
        return None
    if current is not None and current.revision == live.revision:
        if not keeps_live:
            return None
        return current._replace(kept_because=f"{what} by {by}, whose source never had it")
    how = "it was never published" if current is None else "it had been changed by hand"
    because = f"{what} by {by}; {how}"
    number, local = environment.records.next_number(), environment.trees.local.patterns
    record = found_record(number, live.scan.inode, live, because, local)
    if current is None:
        return record
    return record._replace(who=current.who, source=current.source, share=current.share)


def read_back(target: Target, record: Record) -> RecordFacts:
    """Return the live tree's record from disk. Raises `TargetDrifted` if the revision differs."""
    stands = target.records.at(target.layout.inode() or 0)
    if stands is None or stands.revision != record.revision:
        raise TargetDrifted("the version that was published is not live")
    return record_facts(stands)


def written_by_check(target: Target) -> Tuple[str, ...]:
    """Return a warning that names what changed in the live version since it was switched to.

    It was built a moment ago, and its check ran since. Empty if nothing did, or it cannot be read.
    """
    with contextlib.suppress(EnvsyncError, OSError):
        stands = target.records.at(target.layout.inode() or 0)
        published = None if stands is None else target.records.manifest(stands)
        now = target.trees.snapshot(target.layout.standing(), glance=True)
        if stands is None or published is None or now.revision == stands.revision:
            return ()
        paths = listed([os.fsdecode(path) for path in difference(published, now.manifest()).paths])
        warning = (
            f"while `check:` ran, this changed in the environment there: {paths}; the next push "
            "will call that drift, unless `local:` names it or the check writes elsewhere"
        )
        return (warning,)
    return ()


def event_of(what: str, publication: Publication, live: Optional[Snapshot]) -> HistoryEvent:
    """Return the line for the history, which recovery also uses to finish an interrupted switch."""
    return HistoryEvent(
        event=what,
        who=publication.who,
        when_seconds=time.time(),
        source=publication.source,
        source_revision=publication.source_revision,
        method=publication.method,
        transport=publication.transport,
        changes=publication.changes,
        replaced_inode=None if live is None else live.scan.inode,
        replaced_revision="" if live is None else live.revision,
        retry_held=publication.retry_held,
    )
