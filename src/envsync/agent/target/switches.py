"""The operations `rollback` and `remove` on a target."""

from __future__ import annotations

import os
from typing import Optional, Sequence, Tuple

from envsync.agent.places.carry_recovery import undo_interrupted_carry
from envsync.agent.places.kept_versions import version_to_go_back_to
from envsync.agent.places.live_name import require_movable
from envsync.agent.places.members import is_foreign
from envsync.agent.places.records import Record
from envsync.agent.publishing.guarded_switch import Switch
from envsync.agent.publishing.remove import RemovalOrder, Remover
from envsync.agent.server.accounts import user_name
from envsync.agent.target.inspection import record_facts
from envsync.agent.target.look import Look, with_local_off_record
from envsync.agent.target.preparation import (
    place_findings,
    refuse_anothers,
    require_no_mounts,
    require_no_mounts_in,
    require_sound_link,
)
from envsync.agent.target.publication import event_of, kept_record, read_back
from envsync.agent.target.target import Target
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.build_operations import Check, Publication
from envsync.agent.wire.messages import RecordFacts
from envsync.errors import (
    DIFFERS_AT_REMOVAL,
    NotFound,
    PreflightRefused,
    SourceRefused,
    TargetDrifted,
)


def rollback(target: Target, number: Optional[int], by: str, overwrite: bool) -> RecordFacts:
    """Put an earlier version back; the live one becomes a generation and is held."""
    look = _locked_look(target)
    live, current = look.live, look.record
    record = _earlier(target, number, current, live)
    tree = target.records.tree(record)
    if tree is None:
        raise NotFound(f"the tree of generation {record.number} is missing")
    require_no_mounts_in(tree, f"generation {record.number}")
    not_others = {version.number for version in (record, current) if version is not None}
    others = _kept([r for r in target.records.earlier() if r.number not in not_others])
    another = "put another one back with `--to NUMBER`, or " if others else ""
    instead = f"{another}push a good version instead"
    if not _may_be_moved(target, tree):
        owner = user_name(os.lstat(tree).st_uid)
        raise PreflightRefused(
            f"generation {record.number} belongs to {owner}, and {user_name()} may not move it",
            hint=f"let {owner} run the same command, or {instead}",
            details=others,
        )
    if not _is_as_recorded(target, tree, record):
        raise PreflightRefused(
            f"generation {record.number} was changed since it was published",
            hint=instead,
            details=others,
        )
    publication = Publication(
        record.source_revision, record.source, by, "rollback", "", Check(), retry_held=True
    )
    kept = kept_record(target.environment, look, by)
    if kept is not None and not overwrite:
        raise TargetDrifted("it was changed by hand since it was published")
    with_local_off_record(target.environment, look)
    # In the event, so that whoever finishes an interrupted rollback holds it, too.
    given_up = current if live is not None else target.records.removed()
    holds, holds_there = _held_for(record, given_up)
    event = event_of("rollback", publication, live)
    switch = Switch(
        staged=tree,
        new=record,
        expected=live,
        inspected_seconds=look.began_seconds,
        kept=kept,
        event=event._replace(holds=holds, holds_there=holds_there),
    )
    target.publisher().publish(switch)
    return read_back(target, record)


def _may_be_moved(target: Target, tree: bytes) -> bool:
    """Return whether this user may move a version to the name; to a link there, none is moved.

    Another's that is from before the environment was shared is closed to the group.
    """
    is_free = target.layout.linked_tree() is not None or not is_foreign(tree)
    return is_free or os.access(tree, os.W_OK | os.X_OK)


def _is_as_recorded(target: Target, tree: bytes, record: Record) -> bool:
    """Return whether a version is what was published, once an interrupted carry is undone.

    Raises `PreflightRefused` if this user may not read it, or it does not stay as it is.
    """
    trees, recorded = target.trees, target.records.manifest(record)
    try:
        if recorded is not None:
            back = trees.snapshot(tree)
            undo_interrupted_carry(tree, back.scan.local, recorded, back.manifest())
        return target.environment.is_as_published(tree, record)
    except SourceRefused as error:
        raise PreflightRefused(
            f"generation {record.number} cannot be compared with what was published: "
            f"{error.message}",
            details=error.details,
            hint=error.hint,
        ) from error


def _locked_look(target: Target) -> Look:
    """Look at the live version, now that nobody else can change it through envsync."""
    require_sound_link(target.layout)
    refuse_anothers(place_findings(target.layout))
    target.lock.acquire()
    target.recover()
    require_no_mounts(target.layout)
    return target.look()


def remove(target: Target, by: str, overwrite: bool) -> RecordFacts:
    """Remove the live version; it becomes a generation."""
    look = _locked_look(target)
    if look.live is None:
        raise NotFound(f"there is no environment {target.name} there")
    require_movable(target.layout)
    kept = kept_record(target.environment, look, by, "removed")
    if kept is not None and not overwrite:
        raise TargetDrifted("it is not what was published there", hint=DIFFERS_AT_REMOVAL)
    record = kept or with_local_off_record(target.environment, look).record
    assert record is not None, "what needs no new record has one"
    removal = RemovalOrder(look.live, record, kept is not None, by)
    remover = Remover(target.environment, target.lock, target.on_step)
    return record_facts(remover.run(removal))


def _earlier(
    target: Target, number: Optional[int], current: Optional[Record], live: Optional[Snapshot]
) -> Record:
    """Return generation `number`, or the one of `version_to_go_back_to` if that is None.

    Raises `NotFound` if there is none.
    """
    records = target.records
    live_number = None if current is None else current.number
    kept = [record for record in records.earlier() if record.number != live_number]
    if number is None:
        live_revision = "" if live is None else live.revision
        removed, held = records.removed(), records.held.reasons()
        record = version_to_go_back_to(kept, current, live_revision, removed, held)
    else:
        record = next((record for record in kept if record.number == number), None)
    if record is None:
        raise NotFound(_missing(target.name, number, current), details=_kept(kept))
    return record


def _kept(records: Sequence[Record]) -> Sequence[str]:
    """Return a line that names versions that are kept; none if there are none."""
    numbers = ", ".join(str(record.number) for record in records)
    return [f"kept: number {numbers}"] if records else ()


def _missing(name: str, number: Optional[int], current: Optional[Record]) -> str:
    if number is None:
        return f"there is no earlier version of {name} to go back to"
    if current is not None and current.number == number:
        return f"number {number} of {name} is live already"
    return f"number {number} of {name} is not a version that is kept"


def _held_for(record: Record, current: Optional[Record]) -> Tuple[str, str]:
    """Return what is held when `record` replaces `current`: nothing for one source revision.

    That is the source's revision and this server's.
    """
    if current is None or current.source_revision == record.source_revision:
        return "", ""
    # Going back to the same bytes, published from elsewhere, must not refuse those to anybody.
    there = "" if current.revision == record.revision else current.revision
    return current.source_revision, there
