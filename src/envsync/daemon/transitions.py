"""The state transitions of one environment on one server, as pure functions.

Seconds are wall-clock time, because they are kept across restarts. At a start, a next try that is
further away than `SLOW_MAX_SECONDS` and a rescan comes at once, because the clock was set back;
while the daemon runs, `daemon.sync_state` handles that.
"""

from __future__ import annotations

import math
from dataclasses import replace

from envsync.daemon.rows import (
    HALTED,
    HELD,
    IN_STEP,
    LAGGING,
    PUSHING,
    RETRYING,
    WAITING,
    ErrorFacts,
    ServerRow,
)
from envsync.errors import (
    AuthenticationRefused,
    CheckFailed,
    ConnectionFailed,
    ConnectionLost,
    EnvironmentInUse,
    EnvsyncError,
    HostKeyRefused,
    InventoryError,
    Locked,
    NotFastForward,
    PreflightRefused,
    RevisionHeld,
    SourceShrunk,
    TargetDrifted,
    TargetIsSource,
    TransferFailed,
    UsageError,
)
from envsync.hint_commands import command_line

FIRST_SECONDS = 2.0
UNREACHABLE_MAX_SECONDS = 30.0
"""The longest pause for an unreachable server. With the time of a connect, a server that is back
has the newest version within a minute."""

SLOW_MAX_SECONDS = 600.0
"""The longest pause after failures that take time to mend: a full disk, a failing one, a broken
Python."""

IN_USE_SECONDS = 15.0
"""The first pause after an environment was in use."""

_JITTER = 0.2

UNREACHABLE = frozenset({ConnectionFailed.code, ConnectionLost.code})
_QUICK = UNREACHABLE | {Locked.code, TransferFailed.code}
_HEARS_OF_THE_MEND = frozenset(
    {TargetDrifted.code, NotFastForward.code, SourceShrunk.code, TargetIsSource.code}
)
_HELD = frozenset({RevisionHeld.code, CheckFailed.code})
_HALTED = frozenset(
    {
        AuthenticationRefused.code,
        HostKeyRefused.code,
        InventoryError.code,
        NotFastForward.code,
        PreflightRefused.code,
        SourceShrunk.code,
        TargetDrifted.code,
        TargetIsSource.code,
        UsageError.code,
    }
)


def to_pushing(row: ServerRow, now: float) -> ServerRow:
    """Return the row for a server that a worker is pushing to."""
    since = row.since_seconds if row.state in (LAGGING, RETRYING, WAITING) else now
    return replace(row, state=PUSHING, since_seconds=since, next_try_seconds=None)


def to_lagging(row: ServerRow, now: float) -> ServerRow:
    """Return the row for a server whose version is not the source's.

    A held or halted server can try the new version.
    """
    if row.state == PUSHING:
        return row
    since = row.since_seconds if row.state in (LAGGING, RETRYING, WAITING) else now
    return replace(row, state=LAGGING, since_seconds=since, next_try_seconds=None)


def after_success(
    row: ServerRow,
    revision: str,
    now: float,
    warnings: tuple[str, ...] = (),
    changes: tuple[str, ...] = (),
) -> ServerRow:
    """Return the row for a server that has `revision` of the source, with what its push told.

    A push that finds the revision there tells less than the one that brought it, and adds to it.
    """
    if revision == row.revision:
        warnings = tuple(dict.fromkeys((*row.warnings, *warnings)))
        changes = changes or row.changes
    return ServerRow(
        environment=row.environment,
        server=row.server,
        state=IN_STEP,
        revision=revision,
        since_seconds=now,
        place=row.place,
        warnings=warnings,
        changes=changes,
    )


def after_failure(
    row: ServerRow,
    error: EnvsyncError,
    source_revision: str,
    now: float,
    rescan_seconds: float,
    jitter: float,
) -> ServerRow:
    """Return the row after an error of this server; `jitter` is a random number from 0 to 1."""
    state = _state(error.code)
    before = "" if row.error is None else row.error.code
    attempts = row.attempts if _pauses(before) == _pauses(error.code) else 0
    is_stopped = state in (HELD, HALTED)
    if is_stopped:
        # A person may have mended it in the meantime.
        pause_seconds = _spread(rescan_seconds, jitter)
    else:
        pause_seconds = pause_after(error.code, attempts, jitter)
    # What is held is not there: it was rolled back, and to which version is unknown.
    revision = "" if state == HELD and row.revision == source_revision else row.revision
    stays = state == row.state or (row.state == PUSHING and state in (RETRYING, WAITING))
    since_seconds = row.since_seconds if stays and row.since_seconds else now
    stopped_seconds = row.stopped_seconds
    if is_stopped:
        since_seconds = stopped_seconds = stopped_seconds or now
    return replace(
        row,
        state=state,
        revision=revision,
        refused=source_revision if is_stopped else "",
        since_seconds=since_seconds,
        next_try_seconds=now + pause_seconds,
        attempts=attempts + 1,
        error=_shown(error, row.environment, state),
        stopped_seconds=stopped_seconds,
    )


def _shown(error: EnvsyncError, environment: str, state: str) -> ErrorFacts:
    """Return the error with a hint for a person who did not start the push.

    Of what halted it, the hint goes on with how the daemon hears of the mend; a push by hand tells
    the daemon itself, and a server that is taken out of `push_to:` is forgotten with that.
    """
    facts = ErrorFacts.of(error)
    if state == HALTED and facts.hint and error.code not in _HEARS_OF_THE_MEND:
        return facts._replace(hint=facts.hint + _then_sync(environment))
    return facts


def without_sync(row: ServerRow) -> ErrorFacts | None:
    """Return the row's error as told while no daemon runs: one that starts looks by itself."""
    error = row.error
    return error and error._replace(hint=error.hint.removesuffix(_then_sync(row.environment)))


def _then_sync(environment: str) -> str:
    return f"; then: {command_line('daemon', 'sync', environment)}"


def pause_after(code: str, earlier_attempts: int, jitter: float) -> float:
    """Return the seconds until the next try, after so many failures of the same kind in a row."""
    first, longest = _pauses(code)
    return _spread(min(first * 2.0 ** min(earlier_attempts, 30), longest), jitter)


def _spread(seconds: float, jitter: float) -> float:
    """Return a pause that is shorter by up to a fifth, so that not all are tried at once.

    It is never longer: an hour between two rescans means an hour at most.
    """
    return seconds * (1 - _JITTER * jitter)


def after_source_failure(row: ServerRow, now: float) -> ServerRow:
    """Return the row after an error of the source, which says nothing about this server."""
    return to_lagging(replace(row, state=LAGGING), now) if row.state == PUSHING else row


def _state(code: str) -> str:
    if code in _HELD:
        return HELD
    if code in _HALTED:
        return HALTED
    return WAITING if code == EnvironmentInUse.code else RETRYING


def _pauses(code: str) -> tuple[float, float]:
    """Return the first and the longest pause; failures in a row with the same ones double it."""
    if code == EnvironmentInUse.code:
        return IN_USE_SECONDS, SLOW_MAX_SECONDS
    return FIRST_SECONDS, UNREACHABLE_MAX_SECONDS if code in _QUICK else SLOW_MAX_SECONDS


def due_seconds(row: ServerRow, source_revision: str) -> float:
    """Return when to push to this server, if the source is at rest at that revision.

    Infinite if that is not needed, or is under way.
    """
    if row.state == PUSHING:
        return math.inf
    if row.state == IN_STEP:
        return 0.0 if source_revision and row.revision != source_revision else math.inf
    if row.state in (HELD, HALTED) and source_revision and row.refused not in ("", source_revision):
        return 0.0
    return row.next_try_seconds or 0.0


def clamped(row: ServerRow, now: float, rescan_seconds: float) -> ServerRow:
    """Return the row, with a next try now if its own is impossibly far away.

    The clock was set back then.
    """
    ceiling = now + max(SLOW_MAX_SECONDS, rescan_seconds)
    if row.next_try_seconds is not None and row.next_try_seconds > ceiling:
        return replace(row, next_try_seconds=now)
    return row
