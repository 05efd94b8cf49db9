"""A target as it is: what a push looks at before it does anything."""

from __future__ import annotations

import contextlib
import os
import time
from typing import (
    TYPE_CHECKING,
    Callable,
    List,
    Optional,
    Sequence,
    Tuple,
)

from envsync.agent.places.base import has_conda
from envsync.agent.places.busy_findings import live_busy_findings
from envsync.agent.places.layout import INTENT, layout_of
from envsync.agent.places.local_environment import local_environment
from envsync.agent.places.locks import PushLock
from envsync.agent.places.members import require_open_records, shared_finding
from envsync.agent.places.records import Record
from envsync.agent.publishing.switch_site import SwitchSite
from envsync.agent.server.filesystem import existing_parent, space
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.server.machine import platform_facts
from envsync.agent.server.processes import processes_using
from envsync.agent.server.progress import RECOVERED, SWITCH, OnStep, Progress
from envsync.agent.target import preparation
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import (
    DAMAGED_RECORD,
    DirectoryIdentity,
    Finding,
    ProcessUse,
    RecordFacts,
    TargetState,
)
from envsync.agent.wire.target_operations import Requester
from envsync.errors import AgentFailed, EnvsyncError, PreflightRefused, SourceRefused
from envsync.tree.environment_name import BASE
from envsync.tree.manifest import Totals

if TYPE_CHECKING:
    from envsync.agent.publishing.guarded_switch import Publisher
    from envsync.agent.staging.reuse import Elsewhere


class Target:
    """One environment on this server, as pushes and queries see it."""

    def __init__(
        self,
        prefix: str,
        name: str,
        local: Sequence[str],
        cache_directory: Optional[str],
        requester: Requester,
        helpers: HelperProcesses = NO_HELPERS,
        keep: int = 1,
        on_step: OnStep = lambda _: None,
    ) -> None:
        """With the name `base`, it is the prefix itself.

        `keep` is how many earlier versions stay after a push, which may build on the first to go.
        """
        self.is_base = name == BASE
        if not self.is_base:
            preparation.require_prefix(prefix)
        self._elsewhere: Optional[Elsewhere] = None
        self.environment = local_environment(
            layout_of(prefix, name), local, cache_directory, helpers
        )
        self.layout, self.records, self.trees = self.environment
        self.lock = PushLock(self.layout, requester)
        self.live: Optional[Snapshot] = None
        self.inspected_seconds = 0.0
        self.keep = keep
        self.keeps_live = False
        """Whether the live version stays for good once it is replaced, because the source of the
        push never had it."""
        self.on_step = on_step

    @property
    def name(self) -> str:
        return self.layout.name

    def elsewhere(self) -> Elsewhere:
        """Return what this server holds apart from this environment; it is looked at once."""
        from envsync.agent.staging.reuse import Elsewhere

        if self._elsewhere is None:
            self._elsewhere = Elsewhere(self.environment)
        return self._elsewhere

    # Looking

    def inspect(
        self,
        *,
        lock: bool,
        source: Optional[DirectoryIdentity] = None,
        progress: Optional[Progress] = None,
        beside: Callable[[], None] = lambda: None,
    ) -> TargetState:
        """Return the target's state. With `lock`, take the push lock, unless a finding blocks.

        Raises `PreflightRefused` if the directory is the `source` itself, and `Locked` if somebody
        else has the lock. `beside` is called once the look at the live version has begun.
        """
        preparation.require_sound_link(self.layout)
        if source is not None:
            preparation.require_another_place(self.layout, source)
        recovered = None
        if self.is_base:
            preparation.make_room(self.layout, touch=lock)
        findings = list(preparation.place_findings(self.layout))
        if lock and not any(finding.blocking for finding in findings):
            self.lock.acquire()
            recovered = self.recover()
        elif not lock:
            recovered = self.recover_if_free()
        self.inspected_seconds = time.monotonic()
        if self._has_version():
            self.trees.begin(self.layout.standing())
            beside()
        try:
            self.live = self.snapshot(progress)
        except PreflightRefused:
            # Do not ask the owner to open files to a user who may not replace them anyway.
            preparation.refuse_anothers(findings)
            raise
        if self.lock.is_held:
            self._record_inode()
        return self._state(findings + self._findings(), recovered)

    def look(self) -> Optional[Snapshot]:
        """Return the live version as it was found; look now if nothing was."""
        if self.live is None:
            self.live = self.snapshot()
        return self.live

    def look_anew(self) -> Optional[Snapshot]:
        """Look at the live version, with the lock held; return what is found."""
        self.inspected_seconds = time.monotonic()
        self.live = self.snapshot()
        self._record_inode()
        return self.live

    def forget_look(self) -> None:
        """Have the next query look at the live version again."""
        self.live = None

    def _findings(self) -> List[Finding]:
        """Return the findings about the live version and the records."""
        found: List[Finding] = []
        live, record = self.live, self.live_record()
        if live is not None:
            as_published = record is not None and record.revision == live.revision
            found += live_busy_findings(live.scan, self.layout, is_as_published=as_published)
            shared = shared_finding(self.layout, record)
            found += [] if shared is None else [shared]
        damaged = self.records.damaged()
        if damaged:
            require_open_records(self.layout)
            message = f"the record {os.fsdecode(damaged[0])} there is damaged"
            found.append(Finding(DAMAGED_RECORD, message))
        return found

    def _state(self, findings: Sequence[Finding], recovered: Optional[str]) -> TargetState:
        live, record = self.live, self.live_record()
        number = None if record is None else record.number
        free = space(existing_parent(self.layout.state))
        return TargetState(
            exists=live is not None,
            revision="" if live is None else live.revision,
            totals=Totals() if live is None else live.totals,
            record=None if record is None else record_facts(record),
            generations=tuple(record_facts(r) for r in self.records.all() if r.number != number),
            held=self.records.held.reasons(),
            findings=tuple(findings),
            platform=platform_facts(),
            nonce=self.lock.nonce,
            free_bytes=free.free_bytes,
            free_inodes=free.free_inodes,
            recovered=recovered,
            same_place_as=self.lock.other_name,
            removal=self.records.history.removal() if live is None else None,
        )

    def recover(self) -> Optional[str]:
        """Finish or forget an interrupted switch or removal; return what was done, or None.

        The push lock must be held. It is a step like a switch, which is not given up either.
        """
        interrupted = self.layout.interrupted()
        if not interrupted:
            return None
        self.on_step(SWITCH)
        try:
            return self._recover(interrupted)
        finally:
            self.on_step(RECOVERED)

    def _recover(self, interrupted: str) -> Optional[str]:
        if interrupted == INTENT:
            from envsync.agent.publishing.recovery import Recovery

            return Recovery(self.switch_site()).run()
        from envsync.agent.publishing.remove import Remover

        return Remover(self.switch_site()).recover()

    def recover_if_free(self) -> Optional[str]:
        """Finish or forget what was interrupted if the lock is free; return what was done or None.

        A look without the lock changes nothing else.
        """
        if self.lock.is_held or not self.layout.interrupted():
            return None
        # With `self.lock` and no other: a second lock would overwrite which command had it last.
        # Whoever has the lock next reports what fails here.
        with contextlib.suppress(EnvsyncError, OSError, ValueError):
            self.lock.acquire()
            try:
                return self.recover()
            finally:
                self.lock.release()
        return None

    def _has_version(self) -> bool:
        """Return whether there is a live version; a prefix without conda is none."""
        is_there = os.path.isdir(self.layout.live)
        return is_there and not (self.is_base and not has_conda(self.layout.standing()))

    def snapshot(
        self, progress: Optional[Progress] = None, fresh: bool = False
    ) -> Optional[Snapshot]:
        preparation.require_sound_link(self.layout)
        if not self._has_version():
            return None
        try:
            # A glance is enough: the live version is looked at again right before the switch.
            return self.trees.snapshot(
                self.layout.standing(), fresh=fresh, glance=not fresh, progress=progress
            )
        except SourceRefused as error:
            # Not `SourceRefused`, which would concern all servers: this is about one target only.
            raise PreflightRefused(
                f"the live version cannot be read: {error.message}",
                details=error.details,
                hint=error.advice,
            ) from error

    def live_record(self) -> Optional[Record]:
        """Return the record of the live version, by the current local paths, or None.

        It is found by the top directory's inode; after a restore from a backup, by the content.
        """
        record = self._recorded()
        if self.live is None or record is None:
            return None
        return self.environment.published(record, self.live.revision)

    def _recorded(self) -> Optional[Record]:
        if self.live is None:
            return None
        record = self.records.at(self.live.scan.inode)
        if record is not None:
            return record
        same = [r for r in self.records.all() if r.revision == self.live.revision]
        return same[-1] if same else None

    def record_if_replaced(self) -> Optional[Record]:
        """Return the live version's record as it will be once replaced: if changed, it is kept."""
        record = self.live_record()
        if self.live is None or record is None:
            return None
        is_kept = self.keeps_live or record.revision != self.live.revision
        return record._replace(kept_because="it stays") if is_kept else record

    def _record_inode(self) -> None:
        """Update the inode in the live version's record, if it was found by its content.

        Otherwise, once replaced, the version would be a tree without a record.
        """
        live, record = self.live, self._recorded()
        if live is None or record is None or record.inode == live.scan.inode:
            return
        if self.records.tree(record) is not None:
            # The live version is a copy of an earlier one, which exists as well.
            record = record._replace(number=self.records.next_number(), kept_because="")
        local = self.trees.local.patterns
        self.records.store(record._replace(inode=live.scan.inode, local=local), live.manifest())

    def record_without_local(self) -> None:
        """Take from the live version's record what is not its own any more because it is local now.

        To be called right before it is replaced or removed: once kept, it is compared with its
        record. Earlier would be too early: the pattern may be taken out of `local:` again.
        """
        live, record = self.live, self.live_record()
        if live is None or record is None or record.revision != live.revision:
            return
        if record != self._recorded():
            record = record._replace(local=self.trees.local.patterns, totals=live.totals)
            self.records.store(record, live.manifest())

    def require_lock(self) -> None:
        """Raise `AgentFailed` if `inspect` has not taken the lock."""
        if not self.lock.is_held:
            raise AgentFailed("the environment was not locked")

    def switch_site(self) -> SwitchSite:
        return SwitchSite(self.environment, self.lock, self.on_step)

    def publisher(self) -> Publisher:
        # Imported only to publish: most contacts find nothing to do.
        from envsync.agent.publishing.guarded_switch import Publisher

        return Publisher(self.switch_site())

    def using(self) -> Tuple[ProcessUse, ...]:
        """Return the processes that use the environment; none if nothing stands there.

        One that runs on an earlier version uses it as well: by path, it opens the live one's files.
        """
        if self.live is None:
            return ()
        paths = (self.layout.path, self.layout.live, self.layout.trees)
        return processes_using(paths, self.layout.file("writers"))


def record_facts(record: Record) -> RecordFacts:
    return RecordFacts(**{name: getattr(record, name) for name in RecordFacts._fields})
