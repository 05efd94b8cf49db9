"""An environment of this machine, which the daemon follows from a change to the push."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from envsync.daemon import triggers
from envsync.daemon.install_check import InstallCheck
from envsync.daemon.triggers import NO_ACTIVITY, Activity, Observation

REFUSED_MAX_SECONDS = 300.0
"""The longest pause between two tries of a source that is refused every time."""


@dataclass(slots=True)
class ScanRecord:
    """What earlier scans of a source have left for later ones."""

    digest: str = ""
    """The change digest taken before the last successful scan."""
    pending_digest: str = ""
    """The change digest taken before a scan that has not ended yet."""
    known_by: int = 0
    """The start number of the worker that reported the current revision."""

    def succeeded(self) -> None:
        self.digest, self.pending_digest = self.pending_digest, ""

    def failed(self) -> None:
        self.pending_digest = ""

    def outdate(self) -> None:
        """Have the source scanned next time, whatever its digest is."""
        self.digest = ""

    def is_latest(self, start_number: int) -> bool:
        """Return whether no worker that was started later has reported the source's revision.

        A long push reports the revision at its start, which can be older than a later scan's.
        """
        if start_number < self.known_by:
            return False
        self.known_by = start_number
        return True


@dataclass(slots=True)
class TrackedSource:
    """A source, what goes on in it, and its checks; `path` and `local` are its assignment's."""

    path: str
    local: tuple[str, ...]
    install_check: InstallCheck
    scans: ScanRecord = field(default_factory=ScanRecord)
    activity: Activity = NO_ACTIVITY
    is_changed: bool = False
    """Whether it came to rest after a change, and has not been pushed since."""
    refusals: int = 0
    """How often in a row a scan or push was refused because of the source itself."""

    def suspect(self, unfinished: tuple[str, ...], now: float, settle_seconds: float) -> None:
        """Have a source checked before it is pushed, because it was not at rest when last seen."""
        first = triggers.changed(NO_ACTIVITY, now, settle_seconds)
        self.activity = replace(first, unfinished=unfinished)

    def hint(self, now: float, settle_seconds: float) -> None:
        """Take a hint that something may have changed."""
        if self.activity.is_at_rest:
            self.install_check.note_installer()
        self.activity = triggers.changed(self.activity, now, settle_seconds)

    def demand(self, now: float) -> None:
        """Have it checked at once, and pushed without settling."""
        self.activity = replace(NO_ACTIVITY, check_seconds=now, since_seconds=now)
        self.refusals = 0

    def checked(self, seen: Observation, now: float, settle_seconds: float) -> bool:
        """Take the result of a check; return whether the source is at rest and complete."""
        self.activity, is_ready = triggers.checked(self.activity, seen, now, settle_seconds)
        if is_ready:
            self.install_check.accept()
            self.is_changed = True
        return is_ready

    def refused(self, now: float, settle_seconds: float) -> None:
        """Have it checked again after a pause, which doubles with each refusal in a row."""
        doubled = 2.0 ** min(self.refusals, 10)  # bounded, or it overflows after some days
        pause = min(max(settle_seconds, 1.0) * doubled, REFUSED_MAX_SECONDS)
        self.refusals += 1
        self.activity = triggers.changed(self.activity, now, pause)

    def accepted(self) -> None:
        """Note that it could be scanned."""
        self.refusals = 0
