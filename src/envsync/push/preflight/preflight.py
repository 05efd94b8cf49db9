"""What is wrong with either end: which findings forbid a push, and which are warned of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from envsync.agent.server import disk_failures
from envsync.agent.server.filesystem import Space
from envsync.agent.wire.messages import (
    BUSY,
    FINDING_HINTS,
    FOREIGN_OWNER,
    GROUP_OWNED,
    IN_THE_WAY,
    MAPPED,
    MOUNTED_PREFIX,
    NOT_A_DIRECTORY,
    READ_ONLY,
    READ_ONLY_MOUNT,
    SHARED,
    STATE_ELSEWHERE,
    Finding,
    PlanFacts,
    SourceState,
    TargetState,
)
from envsync.conda import platform_needs
from envsync.conda.platform_needs import mismatches
from envsync.errors import Hint, PreflightRefused, SourceRefused, listed
from envsync.push.request.method import MIRROR, REBUILD
from envsync.tree.sharing import WRITE, Share

_CREDENTIALS_SHOWN = 5
AFTER_THE_INSTALLER = Hint(
    "[[push again when the installer has ended; ]]"
    "if it died, install again, and remove what it left"
)
_HINTS: Mapping[str, str | Hint] = {
    **FINDING_HINTS,
    "archive-platform": "unpack it on a server of its own platform, or pack the environment on a "
    "machine of that server's platform",
    "platform": "--method rebuild builds it there; --force-platform pushes it anyway",
    BUSY: AFTER_THE_INSTALLER,
    READ_ONLY: "give yourself write permission there",
    READ_ONLY_MOUNT: "`sudo dmesg` there says why; then mount it read-write again",
    MOUNTED_PREFIX: "create a directory on it, and set that server's `prefix:` to it",
    IN_THE_WAY: "remove it there if it is not needed, or move it out of the prefix; then run "
    "the same command again; `envs` and `pkgs` may stay",
    NOT_A_DIRECTORY: "move it away there",
    STATE_ELSEWHERE: "make `.envsync` a plain directory there, or move the environment there "
    "and leave a link to it in `envs`",
}
_SOURCE_HINTS = {
    MAPPED: Hint("[[push again when it has ended; ]]name files of this server alone in `local:`"),
}


def warnings(source: SourceState, target: TargetState, method: str = MIRROR) -> tuple[str, ...]:
    """Return the findings that do not stop the push."""
    findings = (*source.findings, *_target_findings(source, target, method))
    return tuple(
        finding.message
        for finding in findings
        if not finding.blocking and finding.kind not in (GROUP_OWNED, SHARED)
    )


def credential_warnings(
    paths: Sequence[str], where: str = "the environment there"
) -> tuple[str, ...]:
    """Return warnings that name all files with credentials that are sent.

    The first one says what it means, and how many there are.
    """
    if not paths:
        return ()
    most = _CREDENTIALS_SHOWN
    warning = f"credentials are in {listed(paths, most)}: whoever can read {where} can read them"
    others = (paths[start : start + most] for start in range(most, len(paths), most))
    return (warning, *(f"credentials are also in {', '.join(names)}" for names in others))


def _target_findings(source: SourceState, target: TargetState, method: str) -> Iterator[Finding]:
    yield from target.findings
    if target.same_place_as:
        message = f"it is the same place as {target.same_place_as}: one push serves both"
        yield Finding("same-place", message)
    if method != REBUILD:
        yield from platform_findings(source, target)


def other_platform(source: SourceState, target: TargetState) -> str:
    """Return why programs of the source cannot run on the target; "" if they can."""
    return next((finding.message for finding in platform_findings(source, target)), "")


def platform_findings(source: SourceState, target: TargetState) -> Iterator[Finding]:
    """Yield what forbids a mirror. An older C library does not: see `EndChecks.warnings`."""
    for mismatch in mismatches(source.platform, target.platform):
        if mismatch.refused:
            yield Finding("platform", mismatch.message, blocking=True)


def has_older_libc(source: SourceState, target: TargetState) -> bool:
    """Return whether the newest glibc that the environment needs may be too new for the target."""
    here, there = source.platform, target.platform
    return here.libc == there.libc and platform_needs.has_older_libc(here, there)


def insisted(source: SourceState, target: TargetState) -> tuple[TargetState, tuple[str, ...]]:
    """Return the target with the source's platform, which a person insists on, and what differs."""
    differs = tuple(
        f"{finding.message}; accepted because of --force-platform"
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
        findings = (
            finding._replace(kind=kinds.get(finding.kind, finding.kind)) for finding in findings
        )
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


def require_room(plan: PlanFacts, target: TargetState) -> None:
    """Raise `NoSpace` unless the target has room for what the plan creates."""
    free = Space(target.free_bytes, target.free_inodes)
    disk_failures.require_room(free, plan.new_bytes, plan.fetch_files + plan.copy_files)


def require_shared(target: TargetState, share: Share | None) -> None:
    """Refuse to replace another user's version, unless a group may publish here."""
    if share is None or share.access != WRITE:
        refuse(
            finding._replace(kind=FOREIGN_OWNER, blocking=True)
            for finding in target.findings
            if finding.kind == GROUP_OWNED
        )


def is_shared(target: TargetState) -> bool:
    """Return whether the live version, or what envsync keeps, is shared with a group."""
    return any(finding.kind == SHARED for finding in target.findings)
