"""Gathers what is reported at the end of a push."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from envsync.push.ends.both_ends import BothEnds
from envsync.push.preflight import preflight, replacement
from envsync.push.steps.decision import Decision
from envsync.push.steps.progress import ProgressTracker
from envsync.push.steps.report import PLANNED, PushReport
from envsync.tree.sharing import Share


class About(IntEnum):
    """What warnings are about, in the order in which they are reported.

    Paths that lead outside come last: there may be many, and a terminal shows only the first few.
    """

    INSISTED = 0
    SHARE = 1
    STAGED = 2
    HISTORY = 3
    SWITCH = 4
    CHECK = 5
    ENDS = 6


def unremembered(server: str, problem: str) -> str:
    """Return the warning that the source could not note which version it published."""
    return (
        f"{server} could not note that it published this version ({problem}): push it again when "
        "that is solved; otherwise the next version needs --overwrite there"
    )


class Reporting:
    """The report of one push, in which its steps note what they found out."""

    def __init__(self, ends: BothEnds, progress: ProgressTracker) -> None:
        self._ends = ends
        self._progress = progress
        self._warned: dict[About, tuple[str, ...]] = {}

    def warn(self, about: About, warnings: Sequence[str]) -> None:
        """Report these warnings at the end, in place of what an earlier try said about the same."""
        self._warned[about] = tuple(warnings)

    def report(self, decision: Decision) -> PushReport:
        """Return what all outcomes have in common, for the caller to add the rest.

        The push is over, and nobody is asked anything.
        """
        self._progress.begin("done")
        source, method = decision.source, decision.method
        removed, share = replacement.removed(decision.target), self._ends.settings.share
        return PushReport(
            server=self._ends.target.server,
            environment=self._ends.settings.name_there,
            outcome=decision.outcome,
            revision=source.revision,
            source_revision=source.source_revision,
            totals=source.totals,
            compiled_left_out=source.compiled_left_out,
            method=method.name,
            method_reason=method.reason,
            wire_bytes=self._progress.wire_bytes,
            seconds=self._progress.total_seconds(),
            step_seconds=self._progress.step_seconds(),
            warnings=self._warnings(decision),
            put_back=f"{removed}; this puts it back" if removed else "",
            recovered=decision.target.recovered,
            share=_told(share, decision.outcome),
        )

    def _warnings(self, decision: Decision) -> tuple[str, ...]:
        findings = preflight.warnings(decision.source, decision.target, decision.method.name)
        noted = [warning for about in About for warning in self._warned.get(about, ())]
        return (*findings, *noted)


def _told(share: Share | None, outcome: str) -> str:
    if share is None:
        return ""
    return share.planned if outcome == PLANNED else str(share)
