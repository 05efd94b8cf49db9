"""What stands on a target already: whether it is the source's version, or may be replaced by it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from envsync.agent.places.records import TAKEN_BACK
from envsync.agent.wire.messages import DAMAGED_RECORD, KEPT, RecordFacts, SourceState, TargetState
from envsync.errors import (
    EnvsyncError,
    Hint,
    NotFastForward,
    PreflightRefused,
    RevisionHeld,
    SourceShrunk,
    TargetDrifted,
)
from envsync.push.preflight import preflight
from envsync.push.request.method import MIRROR, REBUILD
from envsync.push.request.settings import PushSettings
from envsync.tree.environment_name import BASE
from envsync.tree.revision import short
from envsync.tree.safety import shrinkage

ANOTHER_BASE = "there is another conda at the prefix already; it is not changed"


def is_in_step(source: SourceState, target: TargetState, method: str) -> bool:
    """Return whether the target has the source's version, or what `method` made of it.

    The source's own version does not count where a rebuild is due because it cannot run there.
    """
    record = target.record
    if not target.exists:
        return False
    if record is not None and record.method == method != MIRROR:
        versions = record.revision, record.source_revision
        if versions == (target.revision, source.source_revision):
            return True
    is_misplaced = method == REBUILD and bool(preflight.other_platform(source, target))
    return target.revision == source.revision_there and not is_misplaced


def has_drifted(target: TargetState) -> bool:
    """Return whether the live version is not the one that was published."""
    if not target.exists:
        return False
    return target.record is None or target.record.revision != target.revision


def require_permission(settings: PushSettings, source: SourceState, target: TargetState) -> None:
    """Refuse what only a person may decide: held, shrunk, removed, drifted, not a fast-forward.

    A base that exists is always refused.
    """
    if settings.environment == BASE and target.exists:
        raise PreflightRefused(ANOTHER_BASE, hint="update it with conda there")
    if settings.unattended:
        _require_not_removed(settings, source, target)
    for refusal in _REFUSALS.values():
        if error := refusal(settings, source, target):
            raise error


def missing_options(
    settings: PushSettings, source: SourceState, target: TargetState
) -> tuple[str, ...]:
    """Return the options without which the push is refused.

    All are named at once: given only one of them, the push would be refused for the next.
    """
    return tuple(
        option for option, refusal in _REFUSALS.items() if refusal(settings, source, target)
    )


def _held(settings: PushSettings, source: SourceState, target: TargetState) -> RevisionHeld | None:
    # Also as it would be on the target: what was rolled back may have come from another prefix.
    names = source.source_revision, source.revision, source.revision_there
    held = next((name for name in names if name in target.held), None)
    if held is None or settings.retry_held:
        return None
    return RevisionHeld(f"revision {short(held)} is held there: {target.held[held]}")


def _shrunk(
    settings: PushSettings, source: SourceState, target: TargetState
) -> SourceShrunk | None:
    if settings.allow_shrink or not target.exists:
        return None
    loss = shrinkage(source.totals, target.totals)
    return SourceShrunk(loss) if loss else None


def _other_version(
    settings: PushSettings, source: SourceState, target: TargetState
) -> TargetDrifted | NotFastForward | None:
    # The same content in another form, such as not shared yet: nothing can be lost. An earlier
    # version of the source's may have been put back by hand, because the newer one broke something.
    is_same = target.exists and target.revision == source.revision_there
    if settings.overwrite or is_same:
        return None
    return drift(target) or _no_fast_forward(source, target)


_REFUSALS: dict[str, Callable[[PushSettings, SourceState, TargetState], EnvsyncError | None]] = {
    "--retry-held": _held,
    "--allow-shrink": _shrunk,
    "--overwrite": _other_version,
}
"""What stops a push, by the option that allows it, in the order in which it is told."""


def drift(target: TargetState) -> TargetDrifted | None:
    """Return why the live version, which is not the one that was published, is not replaced."""
    if not has_drifted(target):
        return None
    if target.record is None:
        damaged = [found.message for found in target.findings if found.kind == DAMAGED_RECORD]
        return TargetDrifted(
            f"{damaged[0]}: it is unknown what was published"
            if damaged
            else "what stands there was never published by envsync"
        )
    return TargetDrifted(f"it was changed there since {published(target.record)}")


def _require_not_removed(settings: PushSettings, source: SourceState, target: TargetState) -> None:
    gone = removed(target)
    if gone:
        is_held = _held(settings, source, target) is not None
        restore = "{insist}" if is_held else "restore it with `{again}`"
        raise TargetDrifted(gone, hint=Hint(restore + ", or remove the server from `push_to`"))


def removed(target: TargetState) -> str:
    """Return that what was published there was removed, by whatever means; "" if it was not."""
    if target.exists:
        return ""
    if target.removal is not None:
        who, when_seconds = target.removal
        return f"it was removed there by {who} on {_local_time(when_seconds)}"
    # A version whose check failed was taken back by the push itself.
    stood = [record for record in target.generations if record.kept_because != TAKEN_BACK]
    if not stood:
        return ""
    last = max(stood, key=lambda record: record.number)
    return f"it was removed there since {published(last)}"


def is_foreign(source: SourceState, target: TargetState) -> bool:
    """Return whether the source is not known to have had what was published there last."""
    record = target.record
    if record is None or not target.exists:
        return False
    if source.environment_id and record.environment_id == source.environment_id:
        return False  # it was pushed from there, perhaps by another user
    return record.source_revision not in (*source.had, source.revision, source.source_revision)


def _no_fast_forward(source: SourceState, target: TargetState) -> NotFastForward | None:
    record = target.record
    if record is None or not is_foreign(source, target):
        return None
    origin = f"from {record.source} ({published(record)})"
    if record.method == KEPT:
        # It was overwritten once, and has been put back since.
        origin = "that was made by hand there"
    return NotFastForward(
        f"it holds revision {short(record.source_revision)} {origin}, "
        "which this source is not known to have had"
    )


def published(record: RecordFacts) -> str:
    """Return `alice@server1 published it on 2026-03-02 14:05`, in the reader's local time."""
    return f"{record.who} published it on {_local_time(record.when_seconds)}"


def _local_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone():%Y-%m-%d %H:%M}"
