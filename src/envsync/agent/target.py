"""The target's side of a push: one environment, from looking at it to publishing.

A push calls, in this order: `inspect(lock=True)`, `stage`, one of the ways to receive,
`complete`, `publish`. Every other method stands alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from envsync.agent import preparation
from envsync.agent.differences import describe, package_changes
from envsync.agent.facts import platform_facts, processes_using, who
from envsync.agent.filesystem import mount_of, space
from envsync.agent.incoming import Incoming
from envsync.agent.layout import Layout, layout, require_live
from envsync.agent.locks import PushLock
from envsync.agent.messages import (
    DifferenceFacts,
    PlanFacts,
    ProcessUse,
    RecordFacts,
    TargetState,
    TotalsFacts,
    VerifyFacts,
)
from envsync.agent.publish import Check, Publisher, Switch, drop_surplus
from envsync.agent.records import Record, Records
from envsync.agent.signs import busy_findings
from envsync.agent.snapshot import Snapshot, Trees
from envsync.agent.staging import Holding, Staging, discard_trees
from envsync.errors import NotFound, PreflightRefused, TargetDrifted
from envsync.tree.difference import difference
from envsync.tree.entry import Entry
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import EMPTY, Manifest, Totals
from envsync.tree.plan import Plan, plan

Progress = Callable[[int], None]
Step = Callable[[str], None]
_NOTHING = TotalsFacts(0, 0, 0)


class Publication(NamedTuple):
    """What a publish is told by the one who pushes."""

    source_revision: str
    source: str
    who: str
    method: str
    transport: str
    keep: int
    check: Check
    retry_held: bool


class Target:
    """One environment on this server, as pushes and questions see it."""

    def __init__(
        self, prefix: str, name: str, local: Sequence[str], cache_directory: Optional[str], by: str
    ) -> None:
        preparation.require_prefix(prefix)
        self._prefix = prefix
        self._places: Layout = layout(prefix, name)
        self._trees = Trees(cache_directory, LocalPaths(local))
        self._records = Records(self._places)
        self._lock = PushLock(self._places, by)
        self._staging: Optional[Staging] = None
        self._live: Optional[Snapshot] = None
        self._wanted: Manifest = EMPTY
        self._verified: Optional[Snapshot] = None
        self.on_step: Step = lambda _: None

    @property
    def name(self) -> str:
        return self._places.name

    # Looking

    def inspect(self, *, lock: bool, progress: Optional[Progress] = None) -> TargetState:
        """What stands here. With `lock`, nobody else may push until this process ends."""
        recovered = None
        findings = list(preparation.place_findings(self._prefix, self._places))
        if lock and not any(finding.blocking for finding in findings):
            self._lock.acquire()
            recovered = self._publisher().recover()
        elif not lock:
            recovered = self._recover_if_free()
        self._live = self._snapshot(progress)
        live = self._live
        if live is not None:
            findings += busy_findings(live.scan, self._places.live)
        record = self._current(live)
        free = space(preparation.existing_parent(self._places.state))
        return TargetState(
            path=os.fsdecode(self._places.live),
            exists=live is not None,
            revision="" if live is None else live.revision,
            totals=_NOTHING if live is None else TotalsFacts(*live.totals),
            record=None if record is None else _facts(record),
            generations=tuple(_facts(r) for r in self._records.all() if r != record),
            held=self._records.held(),
            findings=tuple(findings),
            platform=platform_facts(),
            nonce=self._lock.nonce,
            free_bytes=free.free_bytes,
            free_inodes=free.free_inodes,
            filesystem=mount_of(self._places.state).kind,
            recovered=recovered,
            hashed_bytes=0 if live is None else live.hashed_bytes,
        )

    def _recover_if_free(self) -> Optional[str]:
        """Finish an interrupted switch where nobody holds the lock; questions change nothing else."""
        if not os.path.exists(self._places.file("intent.json")):
            return None
        lock = PushLock(self._places, who())
        with contextlib.suppress(Exception):
            lock.acquire()
            try:
                return self._publisher().recover()
            finally:
                lock.release()
        return None

    def _snapshot(
        self, progress: Optional[Progress] = None, fresh: bool = False
    ) -> Optional[Snapshot]:
        if not os.path.isdir(self._places.live):
            return None
        return self._trees.snapshot(self._places.live, fresh=fresh, progress=progress)

    def _current(self, live: Optional[Snapshot]) -> Optional[Record]:
        """The record of what was published to the name.

        Found by the top directory's inode; after a restore from a backup, by the content.
        """
        if live is None:
            return None
        record = self._records.at(live.scan.inode)
        if record is not None:
            return record
        same = [r for r in self._records.all() if r.revision == live.revision]
        return same[-1] if same else None

    def _publisher(self) -> Publisher:
        return Publisher(self._places, self._trees, self._records, self.on_step)

    def using(self) -> Tuple[ProcessUse, ...]:
        """The processes that run from the live environment or have its files mapped."""
        return processes_using(self._places.live) if self._live is not None else ()

    def differences(self, other: Optional[Manifest], paths_max: int) -> DifferenceFacts:
        """The live tree against another manifest, or against the record where that is None."""
        live = self._live or self._snapshot()
        if live is None:
            require_live(self._places)
            raise NotFound("the environment vanished")
        before = other
        if before is None:
            record = self._current(live)
            before = (None if record is None else self._records.manifest(record)) or EMPTY
        return describe(before, live.manifest(), self._read, paths_max)

    def _read(self, path: bytes) -> Optional[bytes]:
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            with open(os.open(os.path.join(self._places.live, path), flags), "rb") as file:
                return file.read(64 << 20)
        return None

    def base_manifest(self) -> Manifest:
        """What the source's manifest can refer to: the live tree's."""
        return EMPTY if self._live is None else self._live.manifest()

    def dry_plan(self, wanted: Manifest, keep: int) -> PlanFacts:
        """What a push of that manifest would do; nothing is touched."""
        live = self._live or self._snapshot()
        staging = Staging(self._places, self._trees, self._records)
        origin, staged = staging.preview(self._current(live), keep)
        holdings = self._holdings(live)
        work = plan(wanted, staged, [holding.manifest for holding in holdings])
        before = EMPTY if live is None else live.manifest()
        return _plan_facts(work, origin, wanted, package_changes(before, wanted))

    # Pushing

    def stage(
        self, wanted: Manifest, keep: int, progress: Optional[Progress] = None
    ) -> Tuple[PlanFacts, Tuple[Tuple[bytes, Entry], ...]]:
        """Bring a staging tree forward; the files whose contents must come from the source."""
        self._wanted = wanted
        staging = Staging(self._places, self._trees, self._records)
        current = self._current(self._live)
        staging.choose(current, keep, "")
        self._staging = staging
        holdings = self._holdings(self._live)
        work = staging.plan(wanted, holdings)
        staging.require_space()
        fetches = staging.bring_forward(holdings, progress)
        return _plan_facts(work, staging.origin, wanted, ()), fetches

    def _holdings(self, live: Optional[Snapshot]) -> List[Holding]:
        if live is None:
            return []
        return [Holding(self._places.live, live.manifest(), "live")]

    @property
    def staging(self) -> Staging:
        assert self._staging is not None, "stage comes first"
        return self._staging

    def receiver(self, items: Sequence[Tuple[bytes, Entry]]) -> Incoming:
        """What takes the stream of these files into the staging tree."""
        return Incoming(self.staging.writer, items)

    def complete(self, progress: Optional[Progress] = None) -> Snapshot:
        """Finish the staging tree and hash it against the manifest (`VerificationFailed`)."""
        live = self._places.live if self._live is not None else None
        self.staging.complete(self._wanted, live)
        self._verified = self.staging.verify(self._wanted, progress)
        return self._verified

    def publish(self, publication: Publication) -> RecordFacts:
        """The guarded switch, the check, the record; then versions beyond `keep` go."""
        assert self._verified is not None, "complete comes first"
        self.staging.close()
        live, verified = self._live, self._verified
        current = self._current(live)
        kept = self._kept(live, current, publication)
        new = Record(
            number=self._records.next_number() + (kept is not None),
            revision=verified.revision,
            source_revision=publication.source_revision,
            inode=verified.scan.inode,
            who=publication.who,
            source=publication.source,
            when_seconds=time.time(),
            method=publication.method,
            transport=publication.transport,
            totals=verified.totals,
        )
        event = _event("publish", publication, live)
        switch = Switch(
            staged=self.staging.path,
            new=new,
            manifest=verified.manifest(),
            expected=live,
            kept=kept,
            kept_manifest=None if kept is None or live is None else live.manifest(),
            check=publication.check,
            event=event,
        )
        record = self._publisher().publish(switch)
        self._clean_up(record, publication.keep)
        return self._read_back(record)

    def _kept(
        self, live: Optional[Snapshot], current: Optional[Record], publication: Publication
    ) -> Optional[Record]:
        """A record for a version that has none, or was changed since: nothing is lost."""
        if live is None or (current is not None and current.revision == live.revision):
            return None
        reason = "overwritten by %s; it was never published" % publication.who
        if current is not None:
            reason = "overwritten by %s; it had been changed by hand" % publication.who
        return Record(
            number=self._records.next_number(),
            revision=live.revision,
            source_revision="" if current is None else current.source_revision,
            inode=live.scan.inode,
            who=who() if current is None else current.who,
            source="" if current is None else current.source,
            when_seconds=time.time(),
            method="kept",
            transport="",
            totals=live.totals,
            kept_because=reason,
        )

    def _read_back(self, record: Record) -> RecordFacts:
        """The record from disk, for the tree that stands at the name now."""
        stands = self._records.at(os.lstat(self._places.live).st_ino)
        if stands is None or stands.revision != record.revision:
            raise TargetDrifted("the version that was published does not stand there")
        return _facts(stands)

    def _clean_up(self, live: Record, keep: int) -> None:
        drop_surplus(self._places, self._records, live, keep)
        discard_trees(self._places, self._records, [live.inode])

    def adopt(self, publication: Publication) -> RecordFacts:
        """Record a version that stands here already and is the source's, byte for byte."""
        live = self._live
        assert live is not None
        record = Record(
            number=self._records.next_number(),
            revision=live.revision,
            source_revision=publication.source_revision,
            inode=live.scan.inode,
            who=publication.who,
            source=publication.source,
            when_seconds=time.time(),
            method="adopt",
            transport="",
            totals=live.totals,
        )
        self._records.store(record, live.manifest())
        self._records.log({"number": record.number, **_event("adopt", publication, live)})
        return _facts(record)

    # Other commands

    def rollback(self, number: Optional[int], by: str, overwrite: bool) -> RecordFacts:
        """Put an earlier version back, exactly; what stood there becomes a generation, held."""
        self._lock.acquire()
        self._publisher().recover()
        self._live = live = self._snapshot()
        current = self._current(live)
        record = self._earlier(number, current)
        tree = self._records.tree(record)
        if tree is None:
            raise NotFound("the tree of generation %d is gone" % record.number)
        back = self._trees.snapshot(tree)
        if back.revision != record.revision:
            raise PreflightRefused(
                "generation %d was changed since it was published" % record.number,
                hint="push a good version instead",
            )
        publication = Publication(
            record.source_revision, record.source, by, "rollback", "", 0, Check(), True
        )
        kept = self._kept(live, current, publication)
        if kept is not None and not overwrite:
            raise TargetDrifted("it was changed by hand since it was published")
        event = {**_event("rollback", publication, live), "to": record.number}
        switch = Switch(
            staged=tree,
            new=record,
            manifest=None,
            expected=live,
            kept=kept,
            kept_manifest=None if kept is None or live is None else live.manifest(),
            check=Check(),
            event=event,
        )
        self._publisher().publish(switch)
        if current is not None and current.source_revision != record.source_revision:
            self._records.hold(current.source_revision, "rolled back by %s" % by)
        return self._read_back(record)

    def _earlier(self, number: Optional[int], current: Optional[Record]) -> Record:
        earlier = [r for r in self._records.all() if r != current]
        if number is not None:
            earlier = [r for r in earlier if r.number == number]
        if not earlier:
            raise NotFound(
                "there is no earlier version of %s to go back to" % self.name,
                hint="`envsync history %s` shows what was published; `keep:` says how many stay"
                % self.name,
            )
        return earlier[-1]

    def verify(self, progress: Optional[Progress] = None) -> VerifyFacts:
        """Hash every byte of the live tree again and compare it with the record."""
        require_live(self._places)
        snapshot = self._snapshot(progress, fresh=True)
        assert snapshot is not None
        record = self._current(snapshot)
        manifest = None if record is None else self._records.manifest(record)
        found = difference(manifest, snapshot.manifest()) if manifest is not None else None
        return VerifyFacts(
            revision=snapshot.revision,
            record=None if record is None else _facts(record),
            totals=TotalsFacts(*snapshot.totals),
            damaged=() if found is None else tuple(map(os.fsdecode, found.changed)),
            missing=() if found is None else tuple(map(os.fsdecode, found.removed)),
            unexpected=() if found is None else tuple(map(os.fsdecode, found.added)),
        )

    def history(self) -> List[Dict[str, Any]]:
        """What happened to the environment here, oldest first."""
        return self._records.history()


def _event(what: str, publication: Publication, live: Optional[Snapshot]) -> Dict[str, Any]:
    return {
        "event": what,
        "who": publication.who,
        "source": publication.source,
        "source_revision": publication.source_revision,
        "method": publication.method,
        "transport": publication.transport,
        "when_seconds": time.time(),
        "retry_held": publication.retry_held,
        "replaced_inode": None if live is None else live.scan.inode,
        "replaced_revision": "" if live is None else live.revision,
    }


def _facts(record: Record) -> RecordFacts:
    fields = {**record._asdict(), "totals": TotalsFacts(*record.totals)}
    del fields["inode"]
    return RecordFacts(**fields)


def _plan_facts(work: Plan, origin: str, wanted: Manifest, packages: Tuple[str, ...]) -> PlanFacts:
    totals: Totals = wanted.totals()
    return PlanFacts(
        origin=origin,
        fetch_files=len(work.fetches),
        fetch_bytes=work.fetch_bytes(),
        copy_files=len(work.copies) + len(work.repeats),
        copy_bytes=work.copy_bytes(),
        remove_entries=len(work.remove),
        new_bytes=work.new_bytes(),
        wanted=TotalsFacts(*totals),
        packages=packages,
    )
