"""Checks sources for installers at work and their leftovers; records that in the sync state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from envsync.daemon.assignments import Assignment
from envsync.daemon.install_check import InstallCheck
from envsync.daemon.log import Log
from envsync.daemon.rows import SourceRow
from envsync.daemon.sync_state import SyncState
from envsync.daemon.tracked_source import TrackedSource
from envsync.errors import NotFound


class SourceChecks:
    """Checks sources and updates the sync state; `clock` returns monotonic seconds."""

    def __init__(self, sync_state: SyncState, log: Log, clock: Callable[[], float]) -> None:
        self._sync_state = sync_state
        self._log = log
        self._clock = clock

    @property
    def _settle_seconds(self) -> float:
        return self._sync_state.assignments.settle_seconds

    def track(self, assignment: Assignment) -> TrackedSource:
        """Start to follow a source; old leftovers in one seen for the first time are tolerated."""
        name, path = assignment.environment, assignment.path
        accepted = self._sync_state.accepted_packages(name, path)
        check = InstallCheck(path, accepted)
        if not self._sync_state.knows(name):
            old = check.unfinished(only_old=True)
            self._sync_state.store.put_source(SourceRow(name, tolerated=old))
        if accepted is None:
            self._sync_state.packages_accepted(name, path, check.accepted)
        source = TrackedSource(path, assignment.local, check)
        row = self._sync_state.source(name)
        is_failed = row.error is not None and row.error.get("code") != NotFound.code
        if is_failed or row.is_unchecked:
            source.suspect(row.unfinished, self._clock(), self._settle_seconds)
        return source

    def tolerate(self, name: str, source: TrackedSource) -> None:
        """Tolerate what looks unfinished now, because a person wants the source pushed anyway."""
        seen = source.install_check.observe()
        row = self._sync_state.source(name)
        tolerated = tuple(sorted({*row.tolerated, *seen.unfinished}))
        self._sync_state.store.put_source(replace(row, tolerated=tolerated))

    def check(self, name: str, source: TrackedSource, now: float) -> None:
        """Check a source, and record whether it is at rest and complete, and so can be pushed."""
        seen = source.install_check.observe()
        tolerated = () if seen.busy else self._tolerated(name, seen.unfinished)
        seen = replace(
            seen, unfinished=tuple(sign for sign in seen.unfinished if sign not in tolerated)
        )
        was_busy = source.activity.busy
        is_ready = source.checked(seen, now, self._settle_seconds)
        if source.activity.busy and not was_busy:
            self._log.info(f"waiting for {source.activity.busy}", environment=name)
        if source.activity.unfinished:
            self._sync_state.install_unfinished(name, source.activity.unfinished)
        elif is_ready:
            self._sync_state.packages_accepted(name, source.path, source.install_check.accepted)
            self._sync_state.install_finished(name)

    def _tolerated(self, name: str, unfinished: tuple[str, ...]) -> tuple[str, ...]:
        """Return the tolerated leftovers that are still there, and forget the others.

        Do not call this while an installer is at work: such a check does not list leftovers.
        """
        row = self._sync_state.source(name)
        still = tuple(sign for sign in row.tolerated if sign in unfinished)
        self._sync_state.store.put_source(replace(row, tolerated=still))
        return still
