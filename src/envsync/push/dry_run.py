"""Reports what a push would do, and what would be refused first; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from envsync.agent.wire.messages import ProcessUse
from envsync.errors import EnvsyncError
from envsync.push.ends.both_ends import BothEnds
from envsync.push.preflight import preflight
from envsync.push.preflight.end_checks import EndChecks
from envsync.push.preflight.in_use import require_unused
from envsync.push.steps.decision import Decision
from envsync.push.steps.report import PushReport
from envsync.push.steps.reporting import About, Reporting
from envsync.push.steps.sending import SendStep


class DryRun:
    """The end of a push that is only planned, in place of staging and what follows it."""

    def __init__(
        self, ends: BothEnds, checks: EndChecks, send_step: SendStep, notes: Reporting
    ) -> None:
        self._settings, self._source, self._target = ends
        self._checks = checks
        self._send_step = send_step
        self._notes = notes

    def report(self, decision: Decision) -> PushReport:
        processes = self._target.using()
        forecast = self._of_rebuild if decision.method.is_rebuild else self._of_sending
        return replace(forecast(decision, processes), in_use=processes)

    def _of_rebuild(self, decision: Decision, processes: Sequence[ProcessUse]) -> PushReport:
        from envsync.push.rebuilding.rebuild import find_tool, tool_label, unsent

        other_platform = preflight.other_platform(decision.source, decision.target)
        tool = tool_label(find_tool(self._target.ask, self._target.prefix, other_platform))
        requirements = self._source.requirements()
        self._notes.warn(About.STAGED, unsent(requirements, other_platform))
        refusal = self._refusal(decision, processes)
        return replace(self._notes.report(decision), tool=tool, error=refusal)

    def _of_sending(self, decision: Decision, processes: Sequence[ProcessUse]) -> PushReport:
        task, wire_bytes = self._send_step.forecast(is_new=not decision.target.exists)
        plan, choice = task.plan, task.choice
        self._notes.warn(About.STAGED, task.warnings)
        self._notes.warn(About.ENDS, self._checks.warnings(decision.source, decision.target))
        require_room = partial(preflight.require_room, plan, decision.target)
        refusal = self._refusal(decision, processes, self._checks.require_inside, require_room)
        return replace(
            self._notes.report(decision),
            plan=plan,
            transport=choice.transport.name,
            transport_reason=choice.reason,
            agent_forwarded=choice.agent_forwarded,
            predicted_wire_bytes=wire_bytes,
            error=refusal,
        )

    def _refusal(
        self,
        decision: Decision,
        processes: Sequence[ProcessUse],
        *requirements: Callable[[], None],
    ) -> EnvsyncError | None:
        """Return the first error that a push would raise; None if it would raise none."""
        try:
            self._checks.require_permission(decision.source, decision.target)
            require_unused(processes, self._settings)
            for require in requirements:
                require()
        except EnvsyncError as error:
            error.server = self._target.server
            return error
        return None
