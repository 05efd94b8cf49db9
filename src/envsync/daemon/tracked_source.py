"""An environment of this machine, which the daemon follows from a change to the push."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from envsync.agent.wire.messages import listed
from envsync.daemon import triggers
from envsync.daemon.assignments import Assignment
from envsync.daemon.install_check import InstallCheck
from envsync.daemon.log import Log
from envsync.daemon.rows import SourceRow
from envsync.daemon.store import Store
from envsync.daemon.tasks import DigestCheck
from envsync.daemon.triggers import NO_ACTIVITY, Activity, Observation
from envsync.errors import EnvsyncError, InstallUnfinished, NotFound

_SHOWN = 3
"""How many of the things that are half done are named in the message."""


class TrackedSource:
    """All that the daemon knows of one source: its row in the store, and what goes on in it now.

    Only this object changes that row. `clock` returns monotonic seconds, `wall` wall-clock time.
    """

    def __init__(
        self,
        assignment: Assignment,
        settle_seconds: float,
        store: Store,
        log: Log,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Start to follow it; old leftovers in one seen for the first time are tolerated."""
        self.name, self.path = assignment.environment, assignment.path
        self.settle_seconds = settle_seconds
        self.activity = NO_ACTIVITY
        self.is_changed = False
        """Whether it came to rest after a change, and has not been pushed or scanned since."""
        self.is_scan_due = True
        self.is_scan_settled = False
        """Whether it came to rest before the due scan, so that what that finds need not settle."""
        self._local = assignment.local
        self._store = store
        self._log = log
        self._clock = clock
        self._wall = wall
        self._digest = ""
        """The change digest taken before the last successful scan."""
        self._pending_digest = ""
        """The change digest taken before a scan that has not ended yet."""
        self._known_by = 0
        """The start number of the worker that reported the current revision."""
        self._refusals = 0
        """How often in a row a scan or push was refused because of the source itself."""
        self._install_check = self._new_check()
        if self._is_in_doubt():
            self.activity = triggers.changed(NO_ACTIVITY, self._clock(), settle_seconds)

    def _new_check(self) -> InstallCheck:
        """Return a check of its path; have a row, with the packages that are taken for complete."""
        row = self._store.state.sources.get(self.name)
        accepted = row.packages if row is not None and row.path == self.path else None
        check = InstallCheck(self.path, accepted)
        if row is None:
            row = SourceRow(self.name, tolerated=check.unfinished(only_old=True))
        self._store.put_source(replace(row, path=self.path, packages=check.accepted))
        return check

    def _is_in_doubt(self) -> bool:
        """Return whether it was not at rest when an earlier daemon last saw it."""
        error = self.row.error
        is_failed = error is not None and error.get("code") != NotFound.code
        return is_failed or self.row.is_unchecked

    @property
    def row(self) -> SourceRow:
        return self._store.state.sources[self.name]

    @property
    def may_be_pushed(self) -> bool:
        """Whether it is at rest and known, or known to have changed; and not paused."""
        row = self.row
        if row.paused or not self.activity.is_at_rest:
            return False
        # An installer may have been killed while no daemon ran: the first scan shows a change then.
        # After an error, only a change helps.
        return self.is_changed or (self._known_by > 0 and row.error is None)

    @property
    def is_coming_to_rest(self) -> bool:
        """Whether it may be pushed as soon as it has settled, as far as is known."""
        row, activity = self.row, self.activity
        is_settling = not (activity.is_at_rest or activity.busy or row.is_unfinished)
        return is_settling and bool(row.revision) and not row.paused

    # What the inventory or a person asks for

    def adopt(self, assignment: Assignment, settle_seconds: float) -> None:
        """Take another assignment with the same path; with other local paths, it is scanned."""
        self.settle_seconds = settle_seconds
        if assignment.local != self._local:
            self._local = assignment.local
            self._digest = ""
            self.rescan()

    def set_paused(self, paused: bool) -> None:
        self._store.put_source(replace(self.row, paused=paused))

    def demand(self) -> None:
        """Have it checked at once and pushed without settling; tolerate what looks unfinished."""
        seen = self._install_check.observe()
        tolerated = tuple(sorted({*self.row.tolerated, *seen.unfinished}))
        self._store.put_source(replace(self.row, tolerated=tolerated))
        now = self._clock()
        self.activity = Activity(check_seconds=now, since_seconds=now)
        self._refusals = 0

    # Hints and checks

    def hint(self) -> None:
        """Take a hint that something may have changed, and be half done."""
        if self.activity.is_at_rest:
            self._install_check.note_installer()
        self.activity = triggers.changed(self.activity, self._clock(), self.settle_seconds)
        self._store.put_source(replace(self.row, is_unchecked=True))

    def check(self) -> None:
        """Look at it, and note whether it is at rest and complete, and so can be pushed."""
        seen = self._observe()
        was_busy = self.activity.busy
        self.activity = triggers.checked(self.activity, seen, self._clock(), self.settle_seconds)
        if self.activity.busy and not was_busy:
            self._log.info(f"waiting for {self.activity.busy}", environment=self.name)
        if self.activity.unfinished_checks:
            text = f"an installation is not finished: {listed(seen.unfinished, _SHOWN)}"
            self._put_failure(InstallUnfinished(text, details=seen.unfinished[_SHOWN:]))
        elif self.activity.is_at_rest:
            self.is_changed = True
            self._accept()

    def _observe(self) -> Observation:
        """Return what a check sees besides what is tolerated; forget what of that is gone."""
        seen = self._install_check.observe()
        if seen.busy:
            return seen  # such a check does not list leftovers
        still = tuple(sign for sign in self.row.tolerated if sign in seen.unfinished)
        self._store.put_source(replace(self.row, tolerated=still))
        return Observation(unfinished=tuple(one for one in seen.unfinished if one not in still))

    def _accept(self) -> None:
        """Take it for complete as the last check saw it."""
        self._install_check.accept()
        row = replace(self.row, packages=self._install_check.accepted, is_unchecked=False)
        self._store.put_source(replace(row, error=None) if row.is_unfinished else row)

    # Pushes and scans that begin

    def rescan(self) -> None:
        """Have it scanned, whether or not there was a hint."""
        self.is_scan_due, self.is_scan_settled = True, False

    def scan_instead(self) -> None:
        """Have the change scanned, so that servers lag, because nothing is pushed now."""
        self.is_scan_due = self.is_scan_settled = True
        self.is_changed = False

    def push_started(self) -> None:
        self.is_changed = False

    def scan_started(self) -> None:
        self.is_scan_due = False

    def digest_check(self) -> DigestCheck:
        """Return the check that may spare a rescan; without a successful scan, its digest is ""."""
        is_known = bool(self.row.revision) and self.row.error is None
        return DigestCheck(self.name, self.path, self._digest if is_known else "")

    # Workers' reports

    def push_terminated(self) -> None:
        """Have it pushed again, because a push was ended before it reported its revision."""
        self.is_changed = True

    def digest_taken(self, digest: str, *, unchanged: bool) -> None:
        """Note its change digest; if that is not as it was before, a scan follows."""
        self._pending_digest = digest
        if unchanged:
            self._store.put_source(replace(self.row, checked_seconds=self._wall()))

    def scanned(self, revision: str, start_number: int, *, by_push: bool) -> bool:
        """Note the revision that a scan or push has found; return whether that is the latest known.

        A long push reports the revision at its start, which can be older than a later scan's.
        What was half done remains so, because a successful scan says nothing about that.
        """
        self._refusals = 0
        if not by_push:
            self._digest, self._pending_digest = self._pending_digest, ""
        if start_number < self._known_by:
            return False
        self._known_by = start_number
        row = self.row
        error = row.error if row.is_unfinished else None
        if row.error is not None and error is None:
            self._log.info("the source can be pushed again", environment=self.name)
        self._store.put_source(
            replace(row, revision=revision, checked_seconds=self._wall(), error=error)
        )
        return True

    def failed(self, error: EnvsyncError) -> None:
        """Note why it could not be scanned or pushed, unless an unfinished installation is noted.

        It is checked again after a pause, which doubles with each failure in a row. One that is
        gone is not: the watcher notices when it comes back.
        """
        self._pending_digest = ""
        if not self.row.is_unfinished:
            self._put_failure(error)
        if error.code != NotFound.code and self.activity.is_at_rest:
            pause = triggers.pause_after_refusal(self._refusals, self.settle_seconds)
            self._refusals += 1
            self.activity = triggers.changed(self.activity, self._clock(), pause)

    def _put_failure(self, error: EnvsyncError) -> None:
        if (self.row.error or {}).get("message") != error.message:
            self._log.failure(error.to_json(), environment=self.name)
        self._store.put_source(replace(self.row, error=error.to_json()))
