"""An environment of this machine, which the daemon follows from a change to the push."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from envsync.daemon import source_state, triggers
from envsync.daemon.assignments import Assignment
from envsync.daemon.install_check import InstallCheck
from envsync.daemon.log import Log
from envsync.daemon.rows import SourceRow
from envsync.daemon.source_state import DUE, DUE_SETTLED, NOT_DUE, TrackedState
from envsync.daemon.store import Store
from envsync.daemon.triggers import NO_ACTIVITY
from envsync.errors import EnvsyncError


class TrackedSource:
    """Applies to a source's state what happens to it, keeps its row in the store, and logs.

    Only this object changes its `state` and that row, until the source leaves the inventory.
    `clock` returns monotonic seconds, `wall` wall-clock time.
    """

    def __init__(
        self,
        assignment: Assignment,
        store: Store,
        log: Log,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Start to follow it; old leftovers in one seen for the first time are tolerated."""
        self.name, self.path = assignment.environment, assignment.path
        self.assignment = assignment
        self._store = store
        self._log = log
        self._clock = clock
        self._wall = wall
        row = store.state.sources.get(self.name)
        earlier = row if row is not None and row.path == self.path else None
        self._install_check = InstallCheck(self.path, assignment.local, earlier)
        if row is None:
            row = SourceRow(self.name, tolerated=self._install_check.old_leftovers())
        row = replace(row, path=self.path, is_followed=True)
        self.state = self._with_installers(TrackedState(row))
        store.put_source(self.state.row)
        if self.state.is_in_doubt:
            settle_seconds = assignment.settle_seconds
            self._set(activity=triggers.changed(NO_ACTIVITY, self._clock(), settle_seconds))

    @property
    def row(self) -> SourceRow:
        return self.state.row

    def _set(self, **changes: Any) -> None:
        self._apply(replace(self.state, **changes))

    def _apply(self, after: TrackedState) -> None:
        """Put a state in force, and log what is new in it."""
        before, self.state = self.state, after
        self._store.put_source(after.row)
        if after.activity.busy and not before.activity.busy:
            self._log.info(f"waiting for {after.activity.busy}", environment=self.name)
        error, earlier = after.row.error, before.row.error
        if error is not None and (earlier is None or error.message != earlier.message):
            self._log.failure(error, environment=self.name)
        elif error is None and earlier is not None:
            self._log.info("the source can be pushed again", environment=self.name)

    @property
    def is_kept_back(self) -> bool:
        """Whether it is not pushed until a person, or an installer, does something."""
        return self.row.paused or self.row.is_unfinished

    # What the inventory or a person asks for

    def adopt(self, assignment: Assignment) -> None:
        """Take another assignment with the same path; with other local paths, it is scanned."""
        earlier, self.assignment = self.assignment, assignment
        if assignment.local != earlier.local:
            self._install_check.set_local(assignment.local)
            self._set(scan=DUE)

    def set_paused(self, paused: bool) -> None:
        self._set(row=replace(self.row, paused=paused))

    def set_polled(self, polled: bool) -> None:
        """Say whether it is polled, so that an installer can come and go without a hint."""
        self._install_check.is_polled = polled

    def demand(self) -> tuple[str, ...]:
        """Have it checked at once and pushed without settling; tolerate what looks unfinished.

        Return that, as far as it was not tolerated before.
        """
        unfinished = self._install_check.observe().unfinished
        accepted = tuple(sign for sign in unfinished if sign not in self.row.tolerated)
        self._apply(source_state.demanded(self.state, unfinished, self._clock()))
        return accepted

    # Hints and checks

    def hint(self) -> None:
        """Take a hint that something may have changed, and be half done."""
        self._install_check.note_installer()
        state = source_state.changed(self.state, self._clock(), self.assignment.settle_seconds)
        self._apply(self._with_installers(state))

    @property
    def check_seconds(self) -> float:
        """When, by the clock, the next check is due."""
        return self.state.activity.check_seconds

    @property
    def look_seconds(self) -> float:
        """When, in monotonic seconds, `look_for_installers` has something to do."""
        return self._install_check.look_seconds

    def look_for_installers(self) -> None:
        """Note which installers run, if a hint asked for it a moment ago."""
        if self._install_check.look_if_due():
            self._apply(self._with_installers(self.state))

    def check(self) -> None:
        """Look at it, and note whether it is at rest and complete, and so can be pushed."""
        observation = self._install_check.observe()
        now = self._clock()
        state = source_state.checked(self.state, observation, now, self.assignment.settle_seconds)
        if state.activity.is_at_rest:
            self._install_check.accept()
            state = source_state.accepted(state)
        self._apply(self._with_installers(state))

    def _with_installers(self, state: TrackedState) -> TrackedState:
        """Return the state with the installers that were seen, which a later daemon must know."""
        check = self._install_check
        row = replace(state.row, installers=check.runs, accepted_seconds=check.accepted_seconds)
        return replace(state, row=row)

    # Pushes and scans that begin

    def rescan(self) -> None:
        """Have it scanned, whether or not there was a hint."""
        self._set(scan=DUE)

    def scan_instead(self) -> None:
        """Have the change scanned, so that servers lag, because nothing is pushed now."""
        self._set(scan=DUE_SETTLED, is_changed=False)

    def scan_started(self) -> None:
        self._set(scan=NOT_DUE)

    def push_started(self) -> None:
        self._set(is_changed=False)

    # Workers' reports

    def push_terminated(self) -> None:
        """Have it pushed again, because a push was ended before it reported its revision."""
        self._set(is_changed=True)

    def scanned(self, revision: str, start_number: int) -> bool:
        """Note the revision that a scan or push reports; return whether it is the latest known."""
        self._apply(source_state.scanned(self.state, revision, start_number, self._wall()))
        return start_number >= self.state.known_by

    def failed(self, error: EnvsyncError) -> None:
        """Note why it could not be scanned or pushed; it is checked again after a pause."""
        self._apply(
            source_state.failed(self.state, error, self._clock(), self.assignment.settle_seconds)
        )
