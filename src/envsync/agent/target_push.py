"""Building and publishing on a target.

A push calls, in this order, after `Target.inspect(lock=True)`: `stage`, one of the ways to
receive, `complete`, `publish`. `adopt` and `rollback` stand alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from envsync.agent import leftovers, members, sharing
from envsync.agent.blocks import Bases, Patching
from envsync.agent.check import Check
from envsync.agent.facts import who
from envsync.agent.incoming import Incoming
from envsync.agent.layout import Layout
from envsync.agent.messages import Finding, PlanFacts, RecordFacts
from envsync.agent.preparation import switch_findings
from envsync.agent.publish import Switch
from envsync.agent.records import Record
from envsync.agent.reuse import wanted_packages
from envsync.agent.snapshot import Snapshot
from envsync.agent.staging import Holding, Staging, discard_trees
from envsync.agent.surplus import drop_surplus
from envsync.agent.taking_away import Leave, TakingAway
from envsync.agent.target import Target, record_facts
from envsync.agent.target_questions import plan_facts, plan_reusing
from envsync.errors import (
    AgentFailed,
    NoSpace,
    NotFound,
    PreflightRefused,
    SourceRefused,
    StorageFailed,
    TargetDrifted,
)
from envsync.tree.entry import FILE, Entry
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.plan import Plan
from envsync.tree.sharing import WRITE, Share, shared

Progress = Callable[[int], None]
Fetches = Tuple[Tuple[bytes, Entry], ...]


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
    changes: Tuple[str, ...] = ()
    """What of the source could not be had there, where it was made anew."""


class TargetPush:
    """One push to one target, or one way back."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._staging: Optional[Staging] = None
        self._looked: Optional[Staging] = None
        self._outline: Optional[Manifest] = None
        self._is_ahead = False
        self._copied: Optional[Tuple[Holding, PlanFacts]] = None
        self._wanted: Manifest = EMPTY
        self._verified: Optional[Snapshot] = None
        self._shared: Optional[Tuple[int, str]] = None
        self.findings: Tuple[Finding, ...] = ()

    def prepare(self, keep: int) -> None:
        """Read what `stage` will need, while the source is still being looked at."""
        live = self._target.live
        if live is not None:
            live.known()
            self._looked = self._new_staging()
            self._looked.look(self._target.current(live), keep)

    def _new_staging(self) -> Staging:
        return Staging(self._target.places, self._target.trees, self._target.records)

    def share(self, share: Share) -> Tuple[bool, Tuple[str, ...]]:
        """What is built from now on is shared so; whether what stands here is already.

        Raises `PreflightRefused` where this user cannot. With what a person should know.
        """
        places = self._target.places
        gid = sharing.group_number(share)
        self._shared = gid, share.mode
        members.require_same_group(places, gid)
        if self._target.lock.is_held:
            members.open_state(places, gid, share.mode)
        is_so = sharing.is_shared(places.standing(), gid, share.mode)
        warnings = sharing.closed_parents(places, gid)
        if share.mode == WRITE:
            warnings += members.closed_to_publishers(places, gid)
        return is_so, warnings

    def _as_shared(self, wanted: Manifest) -> Manifest:
        return wanted if self._shared is None else shared(wanted, self._shared[1])

    def _hand_down(self, staging: Staging) -> None:
        if self._shared is not None:
            sharing.hand_down(staging.writer.top_fd, self._shared[0])

    def begin(self, outline: Manifest, keep: int) -> Optional[Tuple[PlanFacts, Fetches]]:
        """Build an environment that is not here at all by its outline, ahead of `stage`.

        What is returned is as `stage`'s, in the order of `outline.files`. None, and nothing
        is done, where something of it is here already.
        """
        self._require_lock()
        if self._target.live is not None or self._target.records.all():
            return None
        if self._target.elsewhere().has_most_of(wanted_packages(outline)):
            # Then it is quicker to wait for the hashes, which tell what need not come.
            return None
        staging = self._new_staging()
        staging.choose(None, keep, "")
        self._staging = staging
        if staging.origin != "new":
            return None
        self._hand_down(staging)
        outline = self._as_shared(outline)
        work = staging.plan_whole(outline)
        staging.require_space()
        fetches = staging.bring_forward(())
        self._outline = outline
        return plan_facts(work, (), staging.origin, ()), fetches

    def begin_alike(self, keep: int, progress: Optional[Progress] = None) -> bool:
        """While the source is hashed: copy the tree that `Target.refer_to` found, to build on it.

        False, and nothing is done, where something of the environment is here already, or
        where that tree is too different to be worth its space.
        """
        self._require_lock()
        alike = self._target.alike
        is_new = self._target.live is None and not self._target.records.all()
        if alike is None or not alike.is_close or not is_new:
            return False
        self._staging = staging = self._new_staging()
        staging.choose(None, keep, "")
        if staging.origin != "new":
            return False
        self._hand_down(staging)
        holding = Holding(alike.path, alike.manifest, alike.name)
        outline = self._as_shared(alike.manifest)
        work = staging.plan(outline, [holding])
        with contextlib.suppress(NoSpace):
            staging.require_space()
            # What cannot be copied is lacking then, and comes with the rest.
            staging.bring_forward([holding], progress)
            self._outline = outline
            self._copied = holding, plan_facts(work, [holding], staging.origin, ())
        return self._outline is not None

    def settle(self, progress: Optional[Progress] = None) -> None:
        """Finish what was begun, when its files have come, and look at all of it."""
        outline, self._outline = self._outline, None
        if outline is not None:
            self.staging.complete(outline, None, ())
            self.staging.take_stock(progress)
            self._is_ahead = True

    def stage(
        self,
        wanted: Manifest,
        keep: int,
        progress: Optional[Progress] = None,
        beside: Sequence[Holding] = (),
    ) -> Tuple[PlanFacts, Fetches]:
        """Bring a staging tree forward; the files whose contents must come from the source.

        `beside` are further trees of this server that contents may be copied from.
        """
        self._require_lock()
        self._wanted, self._verified = wanted, None
        self._wanted = wanted = self._as_shared(wanted)
        staging = self._begun(keep)
        copied, self._copied = self._copied, None
        if copied is not None:
            beside = (*beside, copied[0])

        def make(holdings: Sequence[Holding]) -> Plan:
            return staging.plan(wanted, holdings)

        work, found = plan_reusing(self._target, self._target.live, wanted, make, beside)
        staging.require_space()
        fetches = staging.bring_forward(found, progress)
        facts = plan_facts(work, found, staging.origin, ())
        if copied is not None:
            facts = _with_copied(facts, copied[1], work)
        return _with_failed(facts, work, fetches), fetches

    def _begun(self, keep: int) -> Staging:
        """The tree to build on: what `begin` has begun, or what there is."""
        if self._staging is not None and self._is_ahead:
            self._is_ahead = False
            return self._staging
        if self._staging is not None:
            # Once more, for the source has changed since.
            self._staging.close()
        self.findings = switch_findings(self._target.places)
        staging, self._looked = self._looked or self._new_staging(), None
        staging.choose(self._target.current(self._target.live), keep, "")
        self._hand_down(staging)
        self._staging = staging
        return staging

    @property
    def staging(self) -> Staging:
        if self._staging is None:
            raise AgentFailed("nothing was staged")
        return self._staging

    def locked_places(self) -> Layout:
        """Where things stand, for who writes there by other means."""
        self._require_lock()
        return self._target.places

    def _require_lock(self) -> None:
        if not self._target.lock.is_held:
            raise AgentFailed("the environment was not locked")

    def receiver(self, items: Sequence[Tuple[bytes, Entry]]) -> Incoming:
        """What takes the stream of these files into the staging tree."""
        self._verified = None
        return Incoming(self.staging.writer, items)

    def bases(self) -> Bases:
        """What is here at the paths of files that have to come; also before anything is staged."""
        trees = [self._target.places.standing()]
        if self._staging is not None:
            # What an interrupted push left is nearer to the new version than the old one is.
            at = 0 if self._staging.origin == "resumed" else 1
            trees.insert(at, self._staging.path)
        return Bases(trees)

    def patching(self, items: Sequence[Tuple[bytes, Entry]]) -> Patching:
        """The same for files that are made of what is here and what comes."""
        self._verified = None
        return Patching(self.staging.writer, items, self.bases())

    def complete(self, progress: Optional[Progress] = None) -> Snapshot:
        """Finish the staging tree and hash it against the manifest (`VerificationFailed`)."""
        live = self._target.live
        if live is None:
            self.staging.complete(self._wanted, None, ())
        else:
            self.staging.complete(self._wanted, self._target.places.standing(), live.scan.local)
        if self._target.is_base:
            self._make_room_for_environments()
        if self._shared is not None:
            self.staging.regroup(self._shared[0])
        self._verified = self.staging.verify(self._wanted, progress)
        return self._verified

    def _make_room_for_environments(self) -> None:
        for name in (b"envs", b"pkgs"):
            path = os.path.join(self.staging.path, name)
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o755)  # noqa: S103 - as conda makes them

    def publish(self, publication: Publication) -> RecordFacts:
        """The guarded switch, the check, the record; then versions beyond `keep` go."""
        live = self._target.live
        verified, self._verified = self._verified, None
        if verified is None:
            raise AgentFailed("what is to be published was not verified")
        self.staging.close()
        current = self._target.current(live)
        kept = self._kept(live, current, publication)
        new = Record(
            number=self._target.records.next_number() + (kept is not None),
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
            inspected_seconds=self._target.inspected_seconds,
        )
        record = self._target.publisher().publish(switch)
        self._clean_up(record, publication.keep)
        return self._read_back(record)

    def _kept(
        self,
        live: Optional[Snapshot],
        current: Optional[Record],
        publication: Publication,
        what: str = "overwritten",
    ) -> Optional[Record]:
        """A record for a version that has none, or was changed since: nothing is lost."""
        if live is None or (current is not None and current.revision == live.revision):
            return None
        reason = "%s by %s; it was never published" % (what, publication.who)
        if current is not None:
            reason = "%s by %s; it had been changed by hand" % (what, publication.who)
        return Record(
            number=self._target.records.next_number(),
            revision=live.revision,
            # No source ever had it: what stands there was made by hand.
            source_revision=live.revision,
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
        stands = self._target.records.at(self._target.places.inode() or 0)
        if stands is None or stands.revision != record.revision:
            raise TargetDrifted("the version that was published does not stand there")
        return record_facts(stands)

    def _clean_up(self, live: Record, keep: int) -> None:
        """Remove what nobody needs; what resists waits for the next time."""
        target = self._target
        with contextlib.suppress(OSError, SourceRefused, StorageFailed):
            drop_surplus(target.trees, target.records, live, keep)
            discard_trees(target.places, target.records, [live.inode])
            leftovers.discard(target.places.state)

    def adopt(self, publication: Publication) -> RecordFacts:
        """Record a version that stands here already and is the source's, byte for byte."""
        live = self._target.live
        self._require_lock()
        if live is None:
            raise AgentFailed("there is nothing to put on record")
        record = Record(
            number=self._target.records.next_number(),
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
        self._target.records.store(record, live.manifest())
        self._target.records.log({"number": record.number, **_event("adopt", publication, live)})
        return record_facts(record)

    def rollback(self, number: Optional[int], by: str, overwrite: bool) -> RecordFacts:
        """Put an earlier version back, exactly; what stood there becomes a generation, held."""
        live = self._looked_at_again()
        current = self._target.current(live)
        record = self._earlier(number, current)
        tree = self._target.records.tree(record)
        if tree is None:
            raise NotFound("the tree of generation %d is gone" % record.number)
        back = self._target.trees.snapshot(tree)
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
        holds = "" if current is None else current.source_revision
        if holds == record.source_revision:
            holds = ""
        # In the event, so that who finishes an interrupted rollback holds it, too.
        event = {**_event("rollback", publication, live), "to": record.number, "holds": holds}
        switch = Switch(
            staged=tree,
            new=record,
            manifest=None,
            expected=live,
            kept=kept,
            kept_manifest=None if kept is None or live is None else live.manifest(),
            check=Check(),
            event=event,
            inspected_seconds=self._target.inspected_seconds,
        )
        self._target.publisher().publish(switch)
        return self._read_back(record)

    def _looked_at_again(self) -> Optional[Snapshot]:
        """What stands there, now that nobody else may change it through envsync."""
        self._target.require_sound_link()
        self._target.lock.acquire()
        self._target.recover()
        self._target.inspected_seconds = time.monotonic()
        self._target.live = live = self._target.snapshot()
        return live

    def remove(self, by: str, overwrite: bool) -> RecordFacts:
        """Let nothing stand at the name; what stood there becomes a generation, held."""
        live = self._looked_at_again()
        if live is None:
            raise NotFound("there is no environment %s there" % self._target.name)
        current = self._target.current(live)
        publication = Publication(live.revision, "", by, "remove", "", 0, Check(), True)
        kept = self._kept(live, current, publication, "removed")
        if kept is not None and not overwrite:
            raise TargetDrifted("it is not what was published there")
        record = kept or current
        assert record is not None, "what needs no new record has one"
        leave = Leave(live, record, kept is not None, by)
        return record_facts(TakingAway(self._target, self._target.lock).run(leave))

    def _earlier(self, number: Optional[int], current: Optional[Record]) -> Record:
        """Generation `number`, or the newest that was published before what stands there.

        Going back twice goes back twice: what was rolled back is newer, and is not taken.
        """
        earlier = [r for r in self._target.records.all() if r != current]
        if number is not None:
            earlier = [r for r in earlier if r.number == number]
        elif current is not None:
            earlier = [r for r in earlier if r.number < current.number]
        if not earlier:
            raise NotFound(
                "there is no earlier version of %s to go back to" % self._target.name,
                hint="`envsync history %s` shows what was published; `keep:` says how many stay"
                % self._target.name,
            )
        return earlier[-1]


def _with_copied(facts: PlanFacts, copied: PlanFacts, work: Plan) -> PlanFacts:
    """The figures with what was copied before there was a plan, but for what goes again."""
    gone = [make.entry.size_bytes for make in work.remove if make.entry.kind == FILE]
    gone_bytes = min(sum(gone), copied.reused_bytes)
    names = dict.fromkeys(copied.reused_from + facts.reused_from)
    return facts._replace(
        origin=copied.origin,
        copy_files=facts.copy_files + max(0, copied.copy_files - len(gone)),
        copy_bytes=facts.copy_bytes + copied.copy_bytes - gone_bytes,
        new_bytes=facts.new_bytes + copied.new_bytes - gone_bytes,
        reused_bytes=facts.reused_bytes + copied.reused_bytes - gone_bytes,
        reused_from=tuple(names),
    )


def _with_failed(facts: PlanFacts, work: Plan, fetches: Fetches) -> PlanFacts:
    """What could not be copied here comes from the source after all."""
    failed = fetches[len(work.fetches) :]
    size_bytes = sum(entry.size_bytes for _, entry in failed)
    return facts._replace(
        fetch_files=facts.fetch_files + len(failed),
        fetch_bytes=facts.fetch_bytes + size_bytes,
        copy_files=facts.copy_files - len(failed),
        copy_bytes=facts.copy_bytes - size_bytes,
        reused_bytes=max(0, facts.reused_bytes - size_bytes),
    )


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
        "changes": list(publication.changes),
        "replaced_inode": None if live is None else live.scan.inode,
        "replaced_revision": "" if live is None else live.revision,
    }
