"""The preflight rules: what forbids a push and what to warn of, decided from two states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone

from envsync.agent.places.layout import BASE
from envsync.agent.wire.messages import (
    DAMAGED_RECORD,
    FOREIGN_OWNER,
    GROUP_OWNED,
    KEPT,
    SHARED,
    Finding,
    RecordFacts,
    SourceState,
    TargetState,
    listed,
)
from envsync.conda import platform_needs
from envsync.conda.platform_needs import Platform, mismatches
from envsync.errors import (
    ANOTHERS,
    NO_MOUNT_POINT,
    UNMOUNT,
    EnvsyncError,
    NotFastForward,
    PreflightRefused,
    RevisionHeld,
    SourceRefused,
    SourceShrunk,
    TargetDrifted,
)
from envsync.push.request.method import MIRROR, REBUILD
from envsync.push.request.settings import PushSettings
from envsync.tree.manifest import Totals
from envsync.tree.revision import short
from envsync.tree.safety import shrinkage
from envsync.tree.sharing import WRITE, Share

_Require = Callable[[PushSettings, SourceState, TargetState], None]

ANOTHER_BASE = "there is another conda at the prefix already; it is not changed"
_CREDENTIALS_SHOWN = 5
AFTER_THE_INSTALLER = (
    "push again when the installer has ended; if it died, remove what it left, or install again"
)
_HINTS = {
    "archive-platform": "unpack it on a server of its own platform, or pack the environment on a "
    "machine of that server's platform",
    "platform": "--method rebuild builds it there; --force-platform pushes it anyway",
    "busy": AFTER_THE_INSTALLER,
    "read-only": "give yourself write permission there",
    "read-only-mount": "`sudo dmesg` there says why; then mount it read-write again",
    "mount-point": NO_MOUNT_POINT,
    "mounted-inside": UNMOUNT,
    "mounted-prefix": "create a directory on it, and set that server's `prefix:` to it",
    "in-the-way": "remove it there if it is not needed, or move it out of the prefix; then run "
    "the same command again; `envs` and `pkgs` may stay",
    "not-a-directory": "move it away there",
    "state-elsewhere": "make `.envsync` a plain directory there, or move the environment there "
    "and leave a link to it in `envs`",
    FOREIGN_OWNER: ANOTHERS,
}
_SOURCE_HINTS = {
    "mapped": "push again when it has ended; name files of this server alone in `local:`"
}


def warnings(source: SourceState, target: TargetState, method: str = MIRROR) -> tuple[str, ...]:
    """Return the findings that do not stop the push."""
    findings = (*source.findings, *_target_findings(source, target, method))
    told = (finding for finding in findings if finding.kind not in (GROUP_OWNED, SHARED))
    return tuple(finding.message for finding in told if not finding.blocking)


def credential_warning(
    paths: Sequence[str], where: str = "the environment there"
) -> tuple[str, ...]:
    """Return a warning about files with credentials that are sent; empty if there are none."""
    if not paths:
        return ()
    names = listed(paths, _CREDENTIALS_SHOWN)
    return (f"credentials are in {names}: whoever can read {where} can read them",)


def _target_findings(source: SourceState, target: TargetState, method: str) -> Iterator[Finding]:
    yield from target.findings
    if target.same_place_as:
        message = f"it is the same place as {target.same_place_as}: one push serves both"
        yield Finding("same-place", message)
    if method != REBUILD:
        yield from platform_findings(source, target)


def is_other_platform(source: SourceState, target: TargetState) -> bool:
    """Return whether programs of the source cannot run on the target."""
    return any(finding.blocking for finding in platform_findings(source, target))


def platform_findings(source: SourceState, target: TargetState) -> Iterator[Finding]:
    """Yield what forbids a mirror. An older C library does not: see `EndChecks.warnings`."""
    for mismatch in mismatches(Platform(*source.platform), Platform(*target.platform)):
        if mismatch.refused:
            yield Finding("platform", mismatch.message, True)


def has_older_libc(source: SourceState, target: TargetState) -> bool:
    """Return whether the newest glibc that the environment needs may be too new for the target."""
    here, there = Platform(*source.platform), Platform(*target.platform)
    return here.libc == there.libc and platform_needs.has_older_libc(here, there)


def insisted(source: SourceState, target: TargetState) -> tuple[TargetState, tuple[str, ...]]:
    """Return the target with the source's platform, which a person insists on, and what differs."""
    differs = tuple(
        f"{finding.message}; pushed anyway because of --force-platform"
        for finding in platform_findings(source, target)
    )
    return (target._replace(platform=source.platform), differs) if differs else (target, ())


def require_source(source: SourceState) -> None:
    """Refuse a source that is busy or broken."""
    blocking = list(dict.fromkeys(finding for finding in source.findings if finding.blocking))
    if blocking:
        hint = _SOURCE_HINTS.get(blocking[0].kind, AFTER_THE_INSTALLER)
        raise SourceRefused(
            f"the source is not at rest: {blocking[0].message}",
            details=[finding.message for finding in blocking[1:]],
            hint=hint,
        )


def require_target(
    source: SourceState, target: TargetState, method: str = MIRROR, *, is_archive: bool = False
) -> None:
    """Refuse a target that cannot take the environment, whatever its version.

    An archive cannot be rebuilt, so hints for one do not suggest that.
    """
    findings = _target_findings(source, target, method)
    if is_archive:
        kinds = {"platform": "archive-platform"}
        findings = (one._replace(kind=kinds.get(one.kind, one.kind)) for one in findings)
    refuse(findings)


def refuse(findings: Iterable[Finding]) -> None:
    """Raise `PreflightRefused` if one of the findings forbids the push."""
    blocking = [finding for finding in findings if finding.blocking]
    if blocking:
        raise PreflightRefused(
            blocking[0].message,
            details=[finding.message for finding in blocking[1:]],
            hint=_HINTS.get(blocking[0].kind, ""),
        )


def require_shared(target: TargetState, share: Share | None) -> None:
    """Refuse to replace another user's version, unless a group may publish here."""
    if share is None or share.mode != WRITE:
        refuse(
            finding._replace(kind=FOREIGN_OWNER, blocking=True)
            for finding in target.findings
            if finding.kind == GROUP_OWNED
        )


def is_shared(target: TargetState) -> bool:
    """Return whether the live version, or what envsync keeps, is shared with a group."""
    return any(finding.kind == SHARED for finding in target.findings)


def is_in_step(source: SourceState, target: TargetState, method: str = MIRROR) -> bool:
    """Return whether the target has the source's version, or what `method` made of it."""
    if not target.exists or target.revision == source.revision_there:
        return target.exists
    made = target.record
    return (
        made is not None
        and made.method == method != MIRROR
        and (made.revision, made.source_revision) == (target.revision, source.source_revision)
    )


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
    _require_not_held(settings, source, target)
    _require_not_shrunk(settings, source, target)
    if settings.unattended:
        _require_not_removed(target)
    _require_nothing_else(settings, source, target)


def missing_options(
    settings: PushSettings, source: SourceState, target: TargetState
) -> tuple[str, ...]:
    """Return the options without which the push is refused.

    All are named at once: given only one of them, the push would be refused for the next.
    """
    needed = {
        "--overwrite": _require_nothing_else,
        "--allow-shrink": _require_not_shrunk,
        "--retry-held": _require_not_held,
    }
    return tuple(
        option for option, require in needed.items() if _refuses(require, settings, source, target)
    )


def _refuses(
    require: _Require, settings: PushSettings, source: SourceState, target: TargetState
) -> bool:
    try:
        require(settings, source, target)
    except EnvsyncError:
        return True
    return False


def _require_nothing_else(settings: PushSettings, source: SourceState, target: TargetState) -> None:
    if not settings.overwrite:
        require_no_drift(target)
        _require_fast_forward(source, target)


def _require_not_held(settings: PushSettings, source: SourceState, target: TargetState) -> None:
    # Also as it would be on the target: what was rolled back may have come from another prefix.
    names = source.source_revision, source.revision, source.revision_there
    held = next((name for name in names if name in target.held), None)
    if held is not None and not settings.retry_held:
        raise RevisionHeld(f"revision {short(held)} is held there: {target.held[held]}")


def _require_not_shrunk(settings: PushSettings, source: SourceState, target: TargetState) -> None:
    if settings.allow_shrink or not target.exists:
        return
    loss = shrinkage(Totals(*source.totals), Totals(*target.totals))
    if loss is not None:
        raise SourceShrunk(f"the source looks ruined: {loss}")


def require_no_drift(target: TargetState) -> None:
    """Refuse to replace a version that is not the one that was published."""
    if not has_drifted(target):
        return
    if target.record is None:
        damaged = [found.message for found in target.findings if found.kind == DAMAGED_RECORD]
        raise TargetDrifted(
            f"{damaged[0]}: it is unknown what was published"
            if damaged
            else "there is an environment that envsync never published"
        )
    raise TargetDrifted(f"it was changed there since {published(target.record)}")


def _require_not_removed(target: TargetState) -> None:
    if not target.exists and target.generations:
        last = max(target.generations, key=lambda record: record.number)
        raise TargetDrifted(
            f"it was removed there since {published(last)}",
            hint="restore it with `envsync push`, or remove the server from `push_to`",
        )


def is_foreign(source: SourceState, target: TargetState) -> bool:
    """Return whether the source is not known to have had what was published there last."""
    record = target.record
    if record is None or not target.exists:
        return False
    return record.source_revision not in (*source.had, source.revision, source.source_revision)


def _require_fast_forward(source: SourceState, target: TargetState) -> None:
    record = target.record
    if record is not None and is_foreign(source, target):
        origin = f"from {record.source} ({published(record)})"
        if record.method == KEPT:
            # It was overwritten once, and has been put back since.
            origin = "that was made by hand there"
        raise NotFastForward(
            f"it holds revision {short(record.source_revision)} {origin}, "
            "which this source is not known to have had"
        )


def published(record: RecordFacts) -> str:
    """Return `alice@server1 published it on 2026-03-02 14:05`, in the reader's local time."""
    when = datetime.fromtimestamp(record.when_seconds, tz=timezone.utc).astimezone()
    return f"{record.who} published it on {when:%Y-%m-%d %H:%M}"
