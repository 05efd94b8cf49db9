"""Runs a push from the command line and shows its progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from envsync.cli.invocation.in_order import InOrder, OnKnown

if TYPE_CHECKING:
    from envsync.cli.invocation.invocation import Invocation
    from envsync.cli.pushing.request import PushRequest
    from envsync.errors import EnvsyncError
    from envsync.push.steps.report import PushReport


def followed(
    invocation: Invocation, request: PushRequest, on_known: OnKnown, warnings: Sequence[str] = ()
) -> list[PushReport]:
    """Run the push and return its reports in the order of the destinations.

    The caller reports failures. With each new report, `on_known` gets all reports so far, in case
    the push is stopped; then this also prints the errors known so far. Each report without an
    error has `warnings` before its own.
    """
    from envsync.agent.operations.python_gc import collect_rarely

    collect_rarely()  # before the imports, which make many objects and no garbage
    from envsync.cli.pushing.view import PushView
    from envsync.push.fan_out.fan_out import FanOut
    from envsync.push.steps.report import PushReport

    view = PushView(invocation.terminal, request, verbose=invocation.verbose)
    servers = [destination.server for destination in request.destinations]
    known = InOrder(servers, PushReport.to_json, on_known)
    errors: list[EnvsyncError] = []

    def told(report: PushReport) -> PushReport:
        if report.error is not None:
            return report  # the warnings are about what this push does nevertheless
        return replace(report, warnings=(*warnings, *report.warnings))

    def on_report(report: PushReport) -> None:
        report = told(report)
        known.add(report.server, report)
        if report.error is not None:
            errors.append(report.error)
        view.on_report(report)

    fan_out = FanOut(
        request.settings, request.source, request.destinations, view.on_progress, on_report
    )
    try:
        with view:
            reports = [told(report) for report in fan_out.run()]
    except KeyboardInterrupt:
        for report in fan_out.in_doubt():
            on_report(report)
        invocation.terminal.errors(errors)
        raise
    view.conclude(reports)
    return reports
