"""One environment of this machine, as the daemon follows it from change to push."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from envsync.daemon import triggers
from envsync.daemon.install_check import InstallCheck
from envsync.daemon.triggers import NO_ACTIVITY, Activity, Observation

REFUSED_MAX_SECONDS = 300.0
"""Between two tries of a source that is refused every time."""


@dataclass(slots=True)
class ScanRecord:
    """What scans of a source have left for later ones."""

    digest: str = ""
    """Its change digest before its last scan that went well."""
    pending_digest: str = ""
    """One whose scan is still to come."""
    known_by: int = 0
    """The start number of the worker by which its revision became known."""

    def succeeded(self) -> None:
        self.digest, self.pending_digest = self.pending_digest, ""

    def failed(self) -> None:
        self.pending_digest = ""

    def outdate(self) -> None:
        """What was scanned is to be scanned once more, whatever the digest is."""
        self.digest = ""

    def is_latest(self, start_number: int) -> bool:
        """Whether no worker that was started later has told what the source is: a long push tells
        what it was before somebody else looked at it."""
        if start_number < self.known_by:
            return False
        self.known_by = start_number
        return True


@dataclass(slots=True)
class TrackedSource:
    """`path` and `local` (what is not pushed of it) are its assignment's."""

    path: str
    local: tuple[str, ...]
    install_check: InstallCheck
    scans: ScanRecord = field(default_factory=ScanRecord)
    activity: Activity = NO_ACTIVITY
    is_changed: bool = False
    """It came to rest after a change, and has not been pushed since."""
    refusals: int = 0
    """How often in a row it could not be scanned or pushed for its own sake."""

    def suspect(self, unfinished: tuple[str, ...], now: float, settle_seconds: float) -> None:
        """It was not at rest when it was known last: it is checked before it is pushed."""
        first = triggers.changed(NO_ACTIVITY, now, settle_seconds)
        self.activity = replace(first, unfinished=unfinished)

    def hint(self, now: float, settle_seconds: float) -> None:
        """Something may have changed."""
        if self.activity.is_at_rest:
            self.install_check.note_installer()
        self.activity = triggers.changed(self.activity, now, settle_seconds)

    def demand(self, now: float) -> None:
        """It is to be checked at once, and pushed without settling."""
        self.activity = replace(NO_ACTIVITY, check_seconds=now, since_seconds=now)
        self.refusals = 0

    def checked(self, seen: Observation, now: float, settle_seconds: float) -> bool:
        """After a check; whether it has come to rest, and is whole."""
        self.activity, is_ready = triggers.checked(self.activity, seen, now, settle_seconds)
        if is_ready:
            self.install_check.accept()
            self.is_changed = True
        return is_ready

    def refused(self, now: float, settle_seconds: float) -> None:
        """It is to be asked again: ever later, as long as it is refused."""
        doubled = 2.0 ** min(self.refusals, 10)  # no number of days is too many
        pause = min(max(settle_seconds, 1.0) * doubled, REFUSED_MAX_SECONDS)
        self.refusals += 1
        self.activity = triggers.changed(self.activity, now, pause)

    def accepted(self) -> None:
        """It could be scanned."""
        self.refusals = 0
