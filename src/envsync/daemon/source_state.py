"""What the daemon knows of one source, as a value, and its transitions, as pure functions.

Seconds are monotonic, except `checked_seconds`, which are wall-clock time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from envsync.daemon import triggers
from envsync.daemon.rows import ErrorFacts, SourceRow
from envsync.daemon.triggers import NO_ACTIVITY, Activity, Observation
from envsync.errors import EnvsyncError, InstallUnfinished, NotFound, listed

NOT_DUE, DUE, DUE_SETTLED = "not due", "due", "due, settled"
"""Whether a scan is due. A change that it finds need not settle if the source came to rest before
it."""

MEND_CHECK_SECONDS = 60.0
"""The longest pause from a hint to the next try of a source that was refused."""

_SHOWN = 3
"""How many of the things that are half done are named in the message."""


@dataclass(frozen=True, slots=True)
class TrackedState:
    """What is known of a source."""

    row: SourceRow
    """What is kept across restarts."""
    activity: Activity = NO_ACTIVITY
    """What is going on in it now."""
    is_changed: bool = False
    """Whether it came to rest after a change, and has not been pushed or scanned since."""
    scan: str = DUE
    """`NOT_DUE`, `DUE` or `DUE_SETTLED`."""
    known_by: int = 0
    """The start number of the worker that reported the current revision; 0 before the first."""
    refusals: int = 0
    """How often since the last change a scan or push was refused because of the source itself."""

    @property
    def is_in_doubt(self) -> bool:
        """Whether it was not at rest when an earlier daemon last saw it."""
        error = self.row.error
        is_failed = error is not None and error.code != NotFound.code
        return is_failed or self.row.is_unchecked or bool(self.row.installers)

    @property
    def may_be_pushed(self) -> bool:
        """Whether it is at rest and known, or known to have changed; and not paused."""
        if self.row.paused or not self.activity.is_at_rest:
            return False
        # An installer may have been killed while no daemon ran: the first scan shows a change then.
        # After an error, only a change helps.
        return self.is_changed or (self.known_by > 0 and self.row.error is None)

    @property
    def is_coming_to_rest(self) -> bool:
        """Whether it may be pushed as soon as it has settled, as far as is known."""
        row, activity = self.row, self.activity
        is_settling = not (activity.is_at_rest or activity.busy or row.is_unfinished)
        return is_settling and bool(row.revision) and not row.paused


# Hints and checks


def changed(state: TrackedState, now: float, settle_seconds: float) -> TrackedState:
    """Return the state after a hint that something may have changed, and be half done.

    A pause after refusals is shortened, because the change may be the mend.
    """
    activity = state.activity
    if state.refusals and not activity.busy:
        pause_seconds = triggers.pause_after_refusal(state.refusals, settle_seconds)
        soon = now + min(pause_seconds, MEND_CHECK_SECONDS)
        activity = replace(activity, check_seconds=min(activity.check_seconds, soon))
    return replace(
        state,
        row=replace(state.row, is_unchecked=True),
        activity=triggers.changed(activity, now, settle_seconds),
    )


def demanded(state: TrackedState, unfinished: tuple[str, ...], now: float) -> TrackedState:
    """Return the state after a person has asked for a push of it as it is.

    It is checked now, need not settle, and what looks unfinished is tolerated.
    """
    tolerated = tuple(sorted({*state.row.tolerated, *unfinished}))
    return replace(
        state,
        row=replace(state.row, tolerated=tolerated),
        activity=Activity(check_seconds=now, since_seconds=now),
        refusals=0,
    )


def checked(
    state: TrackedState, observation: Observation, now: float, settle_seconds: float
) -> TrackedState:
    """Return the state after a check; what is tolerated does not count until it is gone."""
    row, unfinished = state.row, observation.unfinished
    if observation.is_there and not observation.busy:  # else what is unfinished is not listed
        row = replace(row, tolerated=tuple(sign for sign in row.tolerated if sign in unfinished))
        unfinished = tuple(sign for sign in unfinished if sign not in row.tolerated)
    observation = replace(observation, unfinished=unfinished)
    activity = triggers.checked(state.activity, observation, now, settle_seconds)
    if activity.unfinished_checks:
        text = f"an installation is not finished: {listed(unfinished, _SHOWN)}"
        error = InstallUnfinished(text, details=unfinished[_SHOWN:])
        row = replace(row, error=ErrorFacts.of(error))
    return replace(
        state, row=row, activity=activity, is_changed=state.is_changed or activity.is_at_rest
    )


def accepted(state: TrackedState) -> TrackedState:
    """Return the state after a check has found the source complete."""
    error = None if state.row.is_unfinished else state.row.error
    return replace(state, row=replace(state.row, is_unchecked=False, error=error))


# Workers' reports


def scanned(
    state: TrackedState, revision: str, start_number: int, checked_seconds: float
) -> TrackedState:
    """Return the state after a worker has reported the revision.

    An older revision than the one that is known changes nothing of that: a long push reports the
    one at its start. What was half done remains so, because a scan says nothing about that.
    """
    state = replace(state, refusals=0)
    if start_number < state.known_by:
        return state
    error = state.row.error if state.row.is_unfinished else None
    row = replace(state.row, revision=revision, checked_seconds=checked_seconds, error=error)
    return replace(state, row=row, known_by=start_number)


def failed(
    state: TrackedState, error: EnvsyncError, now: float, settle_seconds: float
) -> TrackedState:
    """Return the state after a scan or push failed because of the source.

    The error is noted unless that of an unfinished installation is. The source is checked again
    after a pause, which doubles with each failure in a row. One that is gone is not: the watcher
    notices when it comes back.
    """
    if not state.row.is_unfinished:
        state = replace(state, row=replace(state.row, error=ErrorFacts.of(error)))
    if error.code == NotFound.code or not state.activity.is_at_rest:
        return state
    pause_seconds = triggers.pause_after_refusal(state.refusals, settle_seconds)
    activity = triggers.changed(state.activity, now, pause_seconds)
    return replace(state, activity=activity, refusals=state.refusals + 1)
