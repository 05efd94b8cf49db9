"""Rolls a target back to an earlier version; finds out the outcome if the answer is lost."""

from __future__ import annotations

from typing import NamedTuple

from envsync.agent.wire.build_operations import GoBack
from envsync.agent.wire.messages import (
    BUSY,
    FOREIGN_OWNER,
    UNSEEN,
    ProcessUse,
    RecordFacts,
    TargetState,
)
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


class RolledBack(NamedTuple):
    """The live version's record, and the processes that used the environment before the switch.

    `warnings` say so where these cannot be seen.
    """

    record: RecordFacts
    in_use: tuple[ProcessUse, ...]
    warnings: tuple[str, ...]


def roll_back(
    target: TargetEnd, reopen: Reopen, number: int | None, by: str, *, overwrite: bool
) -> RolledBack:
    """Put back generation `number`, or the newest earlier one, also under running processes.

    If the answer is lost, the target tells whether it happened: repeating the rollback would go
    back once more. Raises `ConnectionLost` if it did not happen or nobody can say, as where another
    version was published meanwhile.
    """
    # Look without the lock first: taking it leaves a file behind, even if the name never existed.
    _require_some_version(target, target.inspect(lock=False))
    before = target.inspect(lock=True)
    preflight.refuse(f for f in before.findings if f.kind not in _LEFT_TO_THE_SWITCH)
    in_use = target.using()
    warnings = tuple(found.message for found in before.findings if found.kind == UNSEEN)
    record = _switched(target, reopen, before, GoBack(number, by, overwrite))
    return RolledBack(record, in_use, warnings)


def _switched(
    target: TargetEnd, reopen: Reopen, before: TargetState, request: GoBack
) -> RecordFacts:
    """Have the target go back from the state `before`; return the live version's record."""
    try:
        return target.rollback(*request)
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
