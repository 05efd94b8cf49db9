"""Rolls a target back to an earlier version; finds out the outcome if the answer is lost."""

from __future__ import annotations

from envsync.agent.wire.messages import BUSY, FOREIGN_OWNER, RecordFacts, TargetState
from envsync.errors import ConnectionLost, NotFound, TargetDrifted
from envsync.hint_commands import command_line, what_there_is
from envsync.push.ends.target_end import TargetEnd
from envsync.push.preflight import preflight
from envsync.push.preflight.refusal_hints import fill_difference
from envsync.push.switches.in_doubt import (
    InDoubt,
    Reopen,
    published_meanwhile,
    state_after_loss,
    still_lost,
)

_IN_DOUBT = InDoubt(
    "the current or the earlier version is there, complete", "; look before you roll back again"
)

# A broken installation is what a rollback is for, and the target says best whose version it is.
_LEFT_TO_THE_SWITCH = (BUSY, FOREIGN_OWNER)


def roll_back(
    target: TargetEnd, reopen: Reopen, number: int | None, by: str, *, overwrite: bool
) -> RecordFacts:
    """Put back generation `number`, or the newest earlier one; return the live version's record.

    If the answer is lost, the target tells whether it happened: repeating the rollback would go
    back once more. Raises `ConnectionLost` if it did not happen or nobody can say, as where another
    version was published meanwhile.
    """
    # Look without the lock first: taking it leaves a file behind, even if the name never existed.
    _require_some_version(target, target.inspect(lock=False))
    before = target.inspect(lock=True)
    preflight.refuse(f for f in before.findings if f.kind not in _LEFT_TO_THE_SWITCH)
    try:
        return target.rollback(number, by, overwrite)
    except NotFound as error:
        history = command_line("history", target.name, target.server)
        error.hint = f"`{history}` shows what was published; `keep:` sets how many are kept"
        if error.details:  # there are others
            error.hint = f"`--to NUMBER` puts one of these back; `{history}` shows what they are"
        raise
    except TargetDrifted as error:
        fill_difference(error, target, before)
        raise
    except ConnectionLost as lost:
        record = state_after_loss(lost, reopen, _IN_DOUBT).record
        known = {earlier.number for earlier in before.generations}
        if record is None or (before.record is not None and record.number == before.record.number):
            raise still_lost(
                lost,
                "the connection was lost before the switch; nothing was rolled back",
                lost.default_hint,
            ) from lost
        if record.number not in known:
            raise published_meanwhile(lost, target.name) from lost
        return record


def _require_some_version(target: TargetEnd, state: TargetState) -> None:
    if not state.exists and not state.generations:
        raise NotFound(
            f"there is no environment {target.name!r} there, and no earlier version of it",
            hint=what_there_is(target.server),
        )
