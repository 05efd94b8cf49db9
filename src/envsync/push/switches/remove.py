"""Removes an environment from a target, guarded like a publish; the version is kept until `gc`."""

from __future__ import annotations

from dataclasses import dataclass

from envsync.agent.wire.messages import ProcessUse, RecordFacts, TargetState
from envsync.errors import DIFFERS_AT_REMOVAL, ConnectionLost, EnvsyncError, NotFound
from envsync.hint_commands import command_line, what_there_is
from envsync.push.ends.command_locks import CommandLocks
from envsync.push.ends.target_end import TargetEnd
from envsync.push.preflight import preflight, replacement
from envsync.push.preflight.in_use import refuse_unseen, used_there
from envsync.push.preflight.refusal_hints import fill_difference
from envsync.push.switches.in_doubt import InDoubt, Reopen, state_after_loss

_IN_DOUBT = InDoubt(
    "the old version is there, complete, or none is", "; look before you remove it again"
)


@dataclass(frozen=True, slots=True)
class Removal:
    """What to remove.

    `overwrite` allows the removal of what was changed on the target, `used` of what is in use.
    """

    environment: str
    by: str
    overwrite: bool = False
    used: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed.

    `record` is the one by which the version is kept. It is None in a dry run, and if the same
    command removed the environment under its other name, `same_place_as`.
    """

    state: TargetState
    record: RecordFacts | None = None
    in_use: tuple[ProcessUse, ...] = ()
    refused: EnvsyncError | None = None
    same_place_as: str = ""


def remove_environment(
    target: TargetEnd, reopen: Reopen, removal: Removal, command_locks: CommandLocks
) -> Removed:
    """Remove the environment; in a dry run, return what would be removed or why it is refused.

    If the answer is lost, the target tells whether it happened. `command_locks` covers what the
    same command removes on other servers, some of which may be the same place.
    """
    # Look without the lock first: taking it leaves a file behind, even if the name never existed.
    state = target.inspect(lock=False)
    if not removal.dry_run and (state.exists or state.generations):
        state = command_locks.await_lock(target, lambda: target.inspect(lock=True))
    if state.same_place_as and not state.exists:
        return Removed(state, same_place_as=state.same_place_as)
    _require_environment(target, state)
    processes = target.using()
    try:
        _require_permission(state, processes, removal)
    except EnvsyncError as error:
        fill_difference(error, target, state)
        if not removal.dry_run:
            raise
        error.server = target.server
        return Removed(state, in_use=processes, refused=error)
    if removal.dry_run:
        return Removed(state, in_use=processes)
    try:
        record = target.remove(removal.by, removal.overwrite)
    except ConnectionLost as lost:
        after = state_after_loss(lost, reopen, _IN_DOUBT)
        kept = None if after.exists else _kept(state, after)
        if kept is None:
            raise
        record = kept
    return Removed(state, record, processes)


def _require_environment(target: TargetEnd, state: TargetState) -> None:
    if state.exists:
        return
    hint = what_there_is(target.server)
    if state.generations:
        hint = f"`{command_line('gc', target.server)}` frees what is kept of it"
    raise NotFound(f"there is no environment {target.name!r} there", hint=hint)


def _kept(before: TargetState, after: TargetState) -> RecordFacts | None:
    """Return the record of the version that was removed; None if there is none.

    It need not be the newest record, because the version may have been rolled back to. A version
    that was changed by hand got a record of its own.
    """
    known = {record.number for record in before.generations}
    return max((kept for kept in after.generations if kept.number not in known), default=None)


def _require_permission(
    state: TargetState, processes: tuple[ProcessUse, ...], removal: Removal
) -> None:
    preflight.refuse(state.findings)
    if not removal.overwrite and (error := replacement.drift(state)):
        error.advice = DIFFERS_AT_REMOVAL
        raise error
    if not removal.used:
        refuse_unseen(state, "remove it anyway with --used")
    if processes and not removal.used:
        raise used_there(
            processes,
            "end them, or remove it anyway with --used",
            then=", and files that are opened later would be missing",
        )
