"""Resolves a switch in doubt: one whose answer was lost with the link."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from envsync.agent.wire.messages import RecordFacts, TargetState
from envsync.errors import (
    HELD_THERE,
    AuthenticationRefused,
    CheckFailed,
    ConnectionLost,
    EnvsyncError,
    Hint,
    HostKeyRefused,
    Locked,
)
from envsync.hint_commands import command_line
from envsync.push.ends.target_end import TargetEnd
from envsync.tree.revision import short

RECONNECT_SECONDS_MAX = 90.0
"""How long, beyond the check's own time, a server may take to be reachable again, and its agent to
notice the silence if it has not finished before."""

RETRY_SECONDS = 2.0

Reopen = Callable[[], AbstractContextManager[TargetEnd]]


class InDoubt(NamedTuple):
    """The words for when nobody can tell whether a switch happened.

    `stands` says what may be on the target, and `then`, the end of a hint's template, what to do
    once a person has found out.
    """

    stands: str
    then: str


_PUBLISHED = InDoubt(
    "the old or the new version is there, complete",
    "[[; then run the same command again: it resumes]]",
)


@dataclass(frozen=True, slots=True)
class PendingPublication:
    """What was about to be published, and what the target held before."""

    environment: str
    source_revision: str
    before: TargetState
    check_timeout_seconds: float

    def record_in(self, state: TargetState) -> RecordFacts | None:
        """Return the publication's record in `state`; None if there is none (yet).

        The revision alone does not identify it: a version that was changed by hand may be
        overwritten with the very version that was published before.
        """
        last = max((record.number for record in _records(self.before)), default=0)
        new = [record for record in _records(state) if record.number > last]
        ours = [record for record in new if record.source_revision == self.source_revision]
        return ours[-1] if ours else None


def state_after_loss(
    lost: ConnectionLost,
    reopen: Reopen,
    in_doubt: InDoubt,
    look: Callable[[TargetEnd], TargetState] = lambda target: target.inspect(lock=True),
    *,
    check_timeout_seconds: float = 0.0,
) -> TargetState:
    """Return what `look` finds once the server can be asked again after the answer was `lost`.

    `look` usually takes the lock, so that the earlier agent has ended and what it may have left
    half-done is recovered. Raises `ConnectionLost` if the server cannot be asked in time, and
    `CheckFailed` if the recovery took a version back.
    """
    deadline = time.monotonic() + RECONNECT_SECONDS_MAX + check_timeout_seconds
    while True:
        # Read the clock before the try, so that a process that was suspended past the deadline
        # tries once more when it goes on.
        is_last = time.monotonic() > deadline
        try:
            with reopen() as target:
                return look(target)
        except CheckFailed:
            raise
        except (HostKeyRefused, AuthenticationRefused) as error:
            raise _unknown(lost, in_doubt, error) from error
        except (EnvsyncError, OSError) as error:
            # The server is not reachable yet, or the earlier agent still holds the lock.
            if is_last:
                raise _unknown(lost, in_doubt, error) from error
        time.sleep(RETRY_SECONDS)


def _unknown(
    lost: ConnectionLost, in_doubt: InDoubt, last: EnvsyncError | OSError
) -> ConnectionLost:
    return still_lost(
        lost,
        "the connection was lost during the switch, and the server could not be asked again: "
        f"{in_doubt.stands}",
        Hint("`envsync list {server}` shows which" + in_doubt.then),
        f"then: {last}",
    )


def stopped_in_switch(server: str) -> ConnectionLost:
    """Return the error for a command that was stopped before a server answered to a publish."""
    return ConnectionLost(
        f"the command was stopped during the switch: {_PUBLISHED.stands}",
        hint=Hint("`envsync list {server}` shows which, once its check is over" + _PUBLISHED.then),
        server=server,
    )


def still_lost(
    lost: ConnectionLost, message: str, hint: str | Hint, *details: str
) -> ConnectionLost:
    """Return the loss with a message that says what became known of it."""
    return ConnectionLost(message, hint=hint, details=(*lost.details, *details), server=lost.server)


def resolve_publication(
    lost: ConnectionLost, reopen: Reopen, publication: PendingPublication
) -> tuple[RecordFacts, tuple[str, ...]]:
    """Return the record of a publication whose answer was `lost`, and warnings of what came since.

    Raises `ConnectionLost` if nothing was published or the server cannot be asked in time, and
    `CheckFailed` if the version was taken back.
    """
    look = partial(_look, publication)
    seconds = publication.check_timeout_seconds
    state = state_after_loss(lost, reopen, _PUBLISHED, look, check_timeout_seconds=seconds)
    record = publication.record_in(state)
    if record is None:
        raise _not_published(lost, publication, state)
    return record, _since(record, state)


def _look(publication: PendingPublication, target: TargetEnd) -> TargetState:
    """Return the target's state, locked or once the record is written; else raise `Locked`."""
    try:
        return target.inspect(lock=True)
    except Locked:
        # The lock may be held by somebody else's push, which may take long. A record that is there
        # answers all the same.
        state = target.inspect(lock=False)
        if publication.record_in(state) is None:
            raise
        return state


def _not_published(
    lost: ConnectionLost, publication: PendingPublication, state: TargetState
) -> EnvsyncError:
    reason = state.held.get(publication.source_revision)
    if reason is not None and reason != publication.before.held.get(publication.source_revision):
        # A check that failed after the link was lost has recorded its reason.
        stands = "the previous version is live again" if state.exists else "no version is there"
        return CheckFailed(
            f"{reason}; {stands}",
            hint=HELD_THERE,
        )
    if state.record is not None and state.record not in _records(publication.before):
        return published_meanwhile(lost, publication.environment)
    return still_lost(
        lost, "the connection was lost before the switch; nothing was published", lost.default_hint
    )


def published_meanwhile(lost: ConnectionLost, environment: str) -> ConnectionLost:
    history = command_line("history", environment, lost.server or "SERVER")
    return still_lost(
        lost,
        "the connection was lost, and meanwhile another version was published there",
        f"`{history}` shows what happened",
    )


def _since(record: RecordFacts, state: TargetState) -> tuple[str, ...]:
    if state.record == record:
        return ()
    other = state.record
    if other is None:
        return ("it was published there, and has been removed or replaced by hand since",)
    by = f"by revision {short(other.source_revision)} from {other.source}"
    return (f"it was published there, and has been replaced since {by}",)


def _records(state: TargetState) -> tuple[RecordFacts, ...]:
    """Return all records that a target has, oldest first."""
    found = state.generations if state.record is None else (*state.generations, state.record)
    return tuple(sorted(found))
