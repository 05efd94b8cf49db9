"""A push from the command line, carried out and followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from envsync.cli.invocation.in_order import InOrder, OnKnown

if TYPE_CHECKING:
    from envsync.cli.invocation.invocation import Invocation
    from envsync.cli.pushing.order import PushOrder
    from envsync.push.steps.report import PushReport


def followed(
    invocation: Invocation, order: PushOrder, on_known: OnKnown, warnings: Sequence[str] = ()
) -> list[PushReport]:
    """The reports, in the order of the destinations; failures are told by the caller.

    `on_known` gets all that there are with each that comes, also of a push that is stopped.
    Each has these `warnings` before its own.
    """
    from envsync.agent.operations.python_gc import collect_rarely

    collect_rarely()  # imports, too, make many objects and no garbage
    from envsync.cli.pushing.view import PushView
    from envsync.push.fan_out.fan_out import FanOut
    from envsync.push.steps.report import PushReport

    source = order.source
    fan_out = FanOut(order.settings, source.server, source.open_link)
    view = PushView(invocation.terminal, order, source.server, verbose=invocation.verbose)
    servers = [destination.server for destination in order.destinations]
    known = InOrder(servers, PushReport.to_json, on_known)

    def told(report: PushReport) -> PushReport:
        return replace(report, warnings=(*warnings, *report.warnings))

    def on_report(report: PushReport) -> None:
        report = told(report)
        known.add(report.server, report)
        view.on_report(report)

    with view:
        found = fan_out.run(order.destinations, view.on_progress, on_report)
        reports = [told(report) for report in found]
    view.conclude(reports)
    return reports
