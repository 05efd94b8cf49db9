"""The switch: from one whole version to another in one atomic step, guarded on both sides.

    manifest and intent on disk -> sync -> look again at what stands there -> switch
    -> compare what was switched out -> check -> record -> forget the intent

Whatever dies in between, `recover` needs one fact: which inode stands at the name. The new
one: the switch happened, and what follows it is done now. Any other: it did not, and the
staging tree waits for the next push. None, where a directory was to become a link: what stood
there gets the name back.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from envsync.agent import filesystem
from envsync.agent.check import Check, CheckFailure, run_check
from envsync.agent.content_cache import ContentCache
from envsync.agent.intent import DamagedIntent, Intent, find_intent, forget_intent, replaced_inode
from envsync.agent.layout import Layout
from envsync.agent.live_name import LiveName
from envsync.agent.locks import PushLock
from envsync.agent.records import Record, Records
from envsync.agent.scan_pass import Scan
from envsync.agent.signs import installer_findings
from envsync.agent.snapshot import Snapshot
from envsync.agent.staging_note import find_staging, forget_staging
from envsync.agent.storage import failure_after_switch, trouble
from envsync.agent.surplus import keep_unrecorded
from envsync.agent.trees import Trees
from envsync.errors import (
    CheckFailed,
    PreflightRefused,
    SourceRefused,
    StorageFailed,
    TargetDrifted,
)
from envsync.tree.manifest import Manifest

Step = Callable[[str], None]

RECENT_SECONDS = 10.0
_COMMAND_CHARACTERS_MAX = 1000


class Switch(NamedTuple):
    """What is to be published.

    `new` describes the tree at `staged`; `kept` is a record for the version that stands
    there now, where it has none of its own, so that it stays a generation. `expected` was
    found there at `inspected_seconds` of the monotonic clock. Before `not_before_seconds` a
    change of what is published could show no other stamps than it has.
    """

    staged: bytes
    new: Record
    manifest: Optional[Manifest]
    expected: Optional[Snapshot]
    kept: Optional[Record]
    kept_manifest: Optional[Manifest]
    check: Check
    event: Dict[str, Any]
    inspected_seconds: float
    not_before_seconds: float = 0.0


class Publisher:
    """Switches versions of one environment. The push lock must be held."""

    def __init__(
        self,
        places: Layout,
        trees: Trees,
        records: Records,
        lock: PushLock,
        on_step: Step = lambda _: None,
    ) -> None:
        self._places = places
        self._trees = trees
        self._records = records
        self._lock = lock
        self._on_step = on_step
        self._name = LiveName(places, on_step)

    def publish(self, switch: Switch) -> Record:
        """Make `switch.staged` the live tree and return its record.

        Raises `TargetDrifted` where the live tree changed since it was inspected, before or
        during the switch; `CheckFailed` where the check failed. In both cases the version
        that stood there stands there again. So it does where the disk fails before the
        switch; where it fails afterwards, the error says that the new one stands there, and
        the next contact completes it.
        """
        try:
            self._prepare(switch)
            before = self._look_again(switch)
            self._require_no_installer()
            time.sleep(max(0.0, switch.not_before_seconds - time.monotonic()))
            self._on_step("switch")
            replaced = self._rename(switch.staged, is_free=switch.expected is None)
        except OSError:
            with contextlib.suppress(OSError):
                self._give_up(switch)
            raise
        try:
            self._name.sync()
            self._on_step("switched")
            self._compare(switch, before, replaced)
            return self._finish(switch.new, switch.kept, switch.check, switch.event)
        except OSError as error:
            failure = failure_after_switch(error)
            if failure is None:
                raise
            raise failure from error

    def _prepare(self, switch: Switch) -> None:
        if switch.manifest is not None:
            self._records.store_manifest(switch.new.number, switch.manifest)
        if switch.kept is not None and switch.kept_manifest is not None:
            self._records.store_manifest(switch.kept.number, switch.kept_manifest)
        self._on_step("intent")
        Intent(switch.new, switch.kept, switch.check, switch.event).store(self._places)
        self._on_step("sync")
        try:
            self._lock.sync()
        except OSError:
            self._distrust(switch.staged)
            raise
        self._cache(switch.staged).mark_synced()

    def _cache(self, tree: bytes) -> ContentCache:
        status = os.lstat(tree)
        return self._trees.cache(status.st_dev, status.st_ino)

    def _distrust(self, staged: bytes) -> None:
        """What was staged may not be on the disk, though the kernel still has it in memory.

        Nobody must go on with it, and no hash of it counts any more.
        """
        self._cache(staged).forget()
        with contextlib.suppress(OSError):
            forget_staging(self._places)

    def _look_again(self, switch: Switch) -> Optional[Scan]:
        """The live tree as it is right before the switch; it must be what was inspected.

        Where that was a moment ago, a look at the directories is enough: a file that was
        written to in place is found in the tree switched out, and the switch undone.
        """
        if switch.expected is None:
            if os.path.lexists(self._places.live):
                self._abandon()
                raise _appeared()
            return None
        expected = switch.expected
        try:
            if time.monotonic() - switch.inspected_seconds < RECENT_SECONDS:
                live, before = self._places.standing(), expected.scan
                if self._trees.are_directories_unchanged(live, before):
                    return before
            now = self._trees.scan(self._places.standing())
            is_still = self._trees.is_still(self._places.standing(), now, expected)
        except OSError as error:
            if trouble(error) is not None:
                raise
            self._abandon()
            raise TargetDrifted("the environment vanished during the push") from error
        except SourceRefused:
            is_still = False  # it goes on changing
        if not is_still:
            self._abandon()
            raise TargetDrifted(
                "the environment was changed there during the push", hint="push again"
            )
        return now

    def _require_no_installer(self) -> None:
        """One that has begun would find another version under its hands half-way."""
        at_work = installer_findings(self._places)
        if at_work:
            self._abandon()
            raise TargetDrifted(
                "%s; nothing was switched" % at_work[0].message,
                hint="push again when it is done there",
            )

    def _give_up(self, switch: Switch) -> None:
        """Forget the switch, unless it takes the next contact to bring the name back."""
        if switch.expected is None or self._places.inode() is not None:
            self._abandon()

    def _give_name_to(self, tree: bytes) -> None:
        self._rename(tree)
        self._name.sync()

    def _rename(self, tree: bytes, *, is_free: bool = False) -> Optional[bytes]:
        """Where the version is now that stood at the name; None where none did.

        A name that was free is never taken from what came to stand there since: nobody could
        compare that with anything.
        """
        try:
            return self._name.give_to(tree, is_free=is_free)
        except PreflightRefused:
            self._abandon()
            raise
        except FileExistsError as error:
            self._abandon()
            raise _appeared() from error

    def _compare(self, switch: Switch, before: Optional[Scan], replaced: Optional[bytes]) -> None:
        """What was switched out must be what stood there a moment before."""
        if before is None or switch.expected is None or replaced is None:
            return
        seen = switch.expected._replace(scan=before)
        try:
            if self._trees.is_still(replaced, self._trees.scan(replaced), seen):
                return
        except (SourceRefused, StorageFailed):
            # It goes on changing, or what changed cannot be read: then it is not what it was.
            pass
        self._give_name_to(replaced)
        self._abandon()
        raise TargetDrifted(
            "the environment was changed there in the moment of the switch, which was undone",
            hint="push again when the installer there is done",
        )

    def _finish(
        self, new: Record, kept: Optional[Record], check: Check, event: Dict[str, Any]
    ) -> Record:
        """Everything that follows the switch; may be run again after a crash."""
        if new.source_revision in self._records.held() and not event.get("retry_held"):
            return self._take_back(new, check, CheckFailure("its check failed there", ()))
        self._on_step("check")
        failure = run_check(check.command, check.timeout_seconds, self._places.path)
        if failure is not None:
            # Before the way back, so that whoever finishes it knows; but no full disk bars that.
            with contextlib.suppress(OSError):
                if failure.is_verdict:
                    reason = "its check failed: %s" % failure.summary
                    self._records.hold(new.source_revision, reason)
            self._take_back(new, check, failure)
        self._on_step("record")
        if kept is not None:
            self._records.store(kept)
        self._records.store(new)
        self._records.log({"number": new.number, "revision": new.revision, **event})
        self._records.release(new.source_revision)
        if event.get("holds"):
            self._records.hold(str(event["holds"]), "rolled back by %s" % event.get("who"))
        self._forget_staging(new)
        forget_intent(self._places)
        self._on_step("recorded")
        return new

    def _forget_staging(self, new: Record) -> None:
        """The note of what is being built; that of another tree stays: a rollback ends no push."""
        note = find_staging(self._places)
        if note is None or note.inode == new.inode:
            forget_staging(self._places)

    def _take_back(self, new: Record, check: Check, failure: CheckFailure) -> Record:
        previous = self._other_tree(new)
        if previous is None:
            self._name.take_away()
        else:
            self._give_name_to(previous)
        self._abandon()
        hint = "this revision is held there; change the environment, or --retry-held"
        if not failure.is_verdict:
            hint = "see to it that it can be run there, then push again"
        elif new.source_revision not in self._records.held():
            hint = (
                "its disk took no note of that: free some space there, change the environment, "
                "then push again"
            )
        stands = "the version before stands there again" if previous else "nothing was published"
        told = check.command[:_COMMAND_CHARACTERS_MAX], failure.summary, stands
        raise CheckFailed(
            "the check `%s` failed (%s); %s" % told, details=failure.output, hint=hint
        )

    def _other_tree(self, new: Record) -> Optional[bytes]:
        """Where the version that was switched out stands."""
        inode = replaced_inode(self._places)
        if inode is None:
            return None
        for path in self._places.other_trees():
            if os.lstat(path).st_ino == inode and inode != new.inode:
                return path
        return None

    def _abandon(self) -> None:
        """The switch did not happen, or was undone; the staging tree stays for the next try.

        What was switched out and is not there again is kept all the same.
        """
        records: Tuple[Optional[Record], ...] = ()
        with contextlib.suppress(DamagedIntent):
            intent = find_intent(self._places)
            records = intent.new, intent.kept
            if intent.kept is not None and self._is_switched_out(intent.kept):
                self._records.store(intent.kept)
        forget_intent(self._places)
        known = {record.number for record in self._records.all()}
        for record in records:
            if record is not None and record.number not in known:
                self._records.forget(record)

    def _is_switched_out(self, version: Record) -> bool:
        return self._records.tree(version) is not None

    def recover(self) -> Optional[str]:
        """Finish or forget a switch that was interrupted; what was done, or None.

        Raises `CheckFailed` where the interrupted switch has to be taken back.
        """
        try:
            new, kept, check, event = find_intent(self._places)
        except DamagedIntent:
            # What stands there without a record counts as changed by hand.
            keep_unrecorded(self._places, self._trees, self._records)
            forget_intent(self._places)
            return "the note of an interrupted switch was damaged"
        if self._name.mend(event.get("replaced_inode"), new.inode):
            self._abandon()
            return "an interrupted switch was undone"
        if self._places.inode() != new.inode:
            is_replaced = kept is not None and self._is_switched_out(kept)
            self._abandon()
            if is_replaced:
                return "an interrupted switch had happened, and was undone by hand since"
            return "an interrupted switch had not happened"
        filesystem.sync_directory(os.path.dirname(self._places.live))
        self._protect_changed(new, event)
        self._finish(new, kept, check, event)
        return "an interrupted switch was completed"

    def _protect_changed(self, new: Record, event: Dict[str, Any]) -> None:
        """What was changed in the moment of an interrupted switch is kept for good.

        Nobody compared it then, and by now it is too late to switch back.
        """
        tree = self._other_tree(new)
        if tree is None:
            return
        record = self._records.at(os.lstat(tree).st_ino)
        if record is None:
            return
        changed = record._replace(
            kept_because="it was changed in the moment of a switch that was interrupted"
        )
        try:
            replaced = self._trees.snapshot(tree)
        except (SourceRefused, StorageFailed):
            # It goes on changing: what it is nobody can say, but that it is not what it was.
            self._records.store(changed)
            return
        if replaced.revision != event.get("replaced_revision"):
            changed = changed._replace(revision=replaced.revision, totals=replaced.totals)
            self._records.store(changed, replaced.manifest())


def _appeared() -> TargetDrifted:
    return TargetDrifted("an environment appeared there during the push", hint="push again")
