"""Going back to an earlier version on a target, and what became of it where the answer is lost."""

from __future__ import annotations

import time

from envsync.agent.wire.messages import RecordFacts, TargetState
from envsync.errors import (
    AuthenticationRefused,
    CheckFailed,
    ConnectionLost,
    EnvsyncError,
    HostKeyRefused,
    NotFound,
    TargetDrifted,
)
from envsync.push.ends.target_end import TargetEnd
from envsync.push.switches.aftermath import PATIENCE_SECONDS, RETRY_SECONDS, Reopen


def roll_back(
    target: TargetEnd, reopen: Reopen, number: int | None, by: str, *, overwrite: bool
) -> RecordFacts:
    """Put generation `number` back, or the newest earlier one; the record that stands there now.

    Where the answer is lost, the target tells whether it happened: to do the same again
    would go back once more. Raises `ConnectionLost` where it did not, or nobody can say.
    """
    # A lock would leave its file behind, also for a name that was never there.
    _require_some_version(target, target.inspect(lock=False))
    before = target.inspect(lock=True).record
    try:
        return target.rollback(number, by, overwrite)
    except NotFound as error:
        error.hint = (
            f"`envsync history {target.name} {target.server}` shows what was published; "
            "`keep:` says how many stay"
        )
        raise
    except TargetDrifted as error:
        command = f"`envsync diff {target.name} {target.server} --published`"
        error.hint = error.hint.replace("`envsync diff`", command)
        raise
    except ConnectionLost as lost:
        record = state_after_loss(lost, reopen).record
        if record is None or (before is not None and record.number == before.number):
            raise _told(
                lost,
                "the connection was lost before the switch; nothing was rolled back",
                lost.default_hint,
            ) from lost
        return record


def _require_some_version(target: TargetEnd, state: TargetState) -> None:
    if not state.exists and not state.generations:
        raise NotFound(
            f"there is no environment {target.name!r} there, nor an earlier version of it",
            hint=f"`envsync list {target.server}` shows what there is",
        )


def state_after_loss(lost: ConnectionLost, reopen: Reopen) -> TargetState:
    """What stands there when the agent of before has ended and what it left is recovered."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with reopen() as target:
                return target.inspect(lock=True)
        except CheckFailed:
            raise
        except (HostKeyRefused, AuthenticationRefused) as error:
            raise _unknown(lost, error) from error
        except (EnvsyncError, OSError) as error:
            # Not reachable yet, or the agent of before still has the lock.
            if time.monotonic() > deadline:
                raise _unknown(lost, error) from error
        time.sleep(RETRY_SECONDS)


def _unknown(lost: ConnectionLost, last: EnvsyncError | OSError) -> ConnectionLost:
    return _told(
        lost,
        "the connection was lost during the switch, and the server could not be asked again: "
        "the version before stands there or the earlier one, whole",
        f"`envsync list {lost.server}` tells which, before you go back once more",
        f"then: {last}",
    )


def _told(lost: ConnectionLost, message: str, hint: str, *details: str) -> ConnectionLost:
    return ConnectionLost(message, hint=hint, details=(*lost.details, *details), server=lost.server)
