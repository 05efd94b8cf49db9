"""Reports what a push would do, and what would be refused first; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from envsync.errors import EnvsyncError
from envsync.push.ends.both_ends import BothEnds
from envsync.push.preflight import preflight
from envsync.push.preflight.end_checks import EndChecks
from envsync.push.preflight.in_use import require_unused, require_visible
from envsync.push.steps.decision import Decision
from envsync.push.steps.report import PushReport
from envsync.push.steps.reporting import About, Reporting
from envsync.push.steps.sending import SendStep


def planned(
    ends: BothEnds, checks: EndChecks, send_step: SendStep, notes: Reporting, decision: Decision
) -> PushReport:
    """Return the report of a push that is only planned, in place of staging and what follows."""
    processes = ends.target.using()
    is_rebuild = decision.method.is_rebuild
    requirements = [
        partial(checks.require_permission, decision.source, decision.target, is_rebuild=is_rebuild),
        partial(require_visible, decision.target, ends.settings),
        partial(require_unused, processes, ends.settings),
    ]
    if is_rebuild:
        tool = _tool(ends, notes, decision)
        error = _refusal(ends, requirements)
        return replace(notes.report(decision), in_use=processes, tool=tool, error=error)
    task, wire_bytes = send_step.forecast(is_new=not decision.target.exists)
    notes.warn(About.STAGED, task.warnings)
    notes.warn(About.ENDS, checks.warnings(decision.source, decision.target))
    require_room = partial(preflight.require_room, task.plan, decision.target)
    require_base_starts = partial(checks.require_base_starts, decision.source, decision.target)
    require_whole = partial(checks.require_whole, task.ruin)
    of_sending = (require_base_starts, checks.require_inside, require_whole, require_room)
    error = _refusal(ends, (*requirements, *of_sending))
    return replace(
        notes.report(decision),
        in_use=processes,
        plan=task.plan,
        transport=task.choice.transport.name,
        transport_reason=task.choice.reason,
        agent_forwarded=task.choice.agent_forwarded,
        predicted_wire_bytes=wire_bytes,
        error=error,
    )


def _tool(ends: BothEnds, notes: Reporting, decision: Decision) -> str:
    """Return the tool that would rebuild the environment; warn of what it is not told."""
    from envsync.push.rebuilding.rebuild import find_tool, tool_label, unsent

    other_platform = preflight.other_platform(decision.source, decision.target)
    tool = tool_label(find_tool(ends.target.ask, ends.target.prefix, other_platform))
    notes.warn(About.STAGED, unsent(ends.source.requirements(), other_platform))
    return tool


def _refusal(ends: BothEnds, requirements: Sequence[Callable[[], None]]) -> EnvsyncError | None:
    """Return the first error that a push would raise; None if it would raise none."""
    try:
        for require in requirements:
            require()
    except EnvsyncError as error:
        error.server = ends.target.server
        return error
    return None
