"""Findings that an environment is being changed, or was left half-changed: by a scan and /proc."""

from __future__ import annotations

import time
from typing import Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.server.processes import mapped_for_writing, unseen
from envsync.agent.server.running_installers import installers_at_work
from envsync.agent.trees.content_cache import busy_candidates_of
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.wire.messages import BUSY, MAPPED, UNSEEN, Finding
from envsync.conda import busy
from envsync.conda.metadata import HISTORY
from envsync.errors import TargetDrifted
from envsync.tree.local import LocalPaths

_NO_HISTORY = "no-history"
_DELETED = b" (deleted)"


def busy_findings(scanned: Scan, layout: Layout) -> Tuple[Finding, ...]:
    """Return each sign that the environment is being changed, or was left half-changed."""
    candidates = ((path, time_ns / 1e9) for path, time_ns in busy_candidates_of(scanned))
    signs = busy.signs(candidates, time.time())
    left = tuple(
        Finding(_NO_HISTORY if sign.path == HISTORY else BUSY, sign.message, blocking=sign.blocking)
        for sign in signs
    )
    at_work = installer_findings(layout)
    if at_work:
        # The installer that is running may have left it: then it is no old leftover.
        left = tuple(finding._replace(blocking=True) for finding in left)
    return at_work + left


def live_busy_findings(
    scanned: Scan, layout: Layout, *, is_as_published: bool
) -> Tuple[Finding, ...]:
    """Return `busy_findings` of a target's live version.

    A missing history is none of them: that version was changed, like any other that is not what was
    published. Nor are leftovers in one that is what was published: they came from the source.
    """
    if is_as_published:
        return installer_findings(layout)
    findings = busy_findings(scanned, layout)
    return tuple(finding for finding in findings if finding.kind != _NO_HISTORY)


def installer_findings(layout: Layout) -> Tuple[Finding, ...]:
    """Return this user's installers that change the environment now, under any of its names."""
    return tuple(
        Finding(BUSY, f"{name} (process {pid}) is changing it", blocking=True)
        for name, pid in installers_at_work({layout.path, layout.live, layout.standing()})
    )


def unseen_findings(what: str) -> Tuple[Finding, ...]:
    """Return a finding that `what` is unknown if this server's processes cannot be seen."""
    message = unseen(what)
    return (Finding(UNSEEN, message),) if message else ()


def require_no_installer(layout: Layout, outcome: str, hint: str) -> None:
    """Raise `TargetDrifted` with that outcome and hint while an installer changes it."""
    at_work = installer_findings(layout)
    if at_work:
        raise TargetDrifted(f"{at_work[0].message}; {outcome}", hint=hint)


def mapping_findings(path: bytes, local: LocalPaths) -> Tuple[Finding, ...]:
    """Return a finding for each file that a process can change without its times showing it."""
    return tuple(
        Finding(
            MAPPED,
            f"process {pid} has {file.decode('utf-8', 'replace')} mapped for writing",
            blocking=True,
        )
        for pid, file in sorted(set(mapped_for_writing(path)))
        if not file.endswith(_DELETED) and not local.matches(file)
    )
