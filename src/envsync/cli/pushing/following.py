"""Runs a push from the command line, shows its progress and reports its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from envsync.cli.invocation.in_order import InOrder, OnKnown, ServerDocument
from envsync.cli.invocation.running_daemon import tell_daemon_after
from envsync.errors import EnvsyncError, NotFound, SourceRefused, SourceShrunk

if TYPE_CHECKING:
    from envsync.cli.invocation.invocation import Invocation
    from envsync.cli.invocation.site import Site
    from envsync.cli.pushing.request import PushRequest
    from envsync.push.steps.report import PushReport


def push_and_report(
    invocation: Invocation, site: Site, request: PushRequest, warnings: Sequence[str] = ()
) -> None:
    """Push, report the outcome with `warnings` before the push's own, and raise its error.

    A running daemon is told to look at the servers.
    """
    from envsync.push.request.method import PACK

    source = request.source
    invocation.result = result = {
        "environment": request.settings.environment,
        "name_there": request.settings.name_there,
        "source": {"server": source.server, "prefix": source.prefix},
        "dry_run": request.settings.dry_run,
        "servers": [],
    }

    settings = request.settings
    environment = site.inventory.environment(settings.name_there)
    changed = () if settings.dry_run else [to.server for to in request.destinations]
    is_named_alike = settings.environment == environment.name
    # Of what was packed, or is an archive's, the revision is not that of the environment here.
    is_own = source.open_link is None and is_named_alike and settings.method != PACK
    with tell_daemon_after(environment, changed, invocation.environ) as pushed:

        def know(documents: Sequence[ServerDocument]) -> None:
            result["servers"] = documents
            invocation.done_so_far = _done_so_far(documents, len(request.destinations))
            if is_own:
                succeeded = [report for report in documents if report["error"] is None]
                pushed.update((report["server"], report["revision"]) for report in succeeded)

        know(())
        reports = push_and_show(invocation, request, know, warnings)
    _raise_failures(invocation, reports, source.server)


def _done_so_far(documents: Sequence[ServerDocument], of: int) -> str:
    from envsync.cli.output.wording import tally

    failed = sum(report["error"] is not None for report in documents)
    return tally(len(documents) - failed, of, failed) if of > 1 else ""


def push_and_show(
    invocation: Invocation, request: PushRequest, on_known: OnKnown, warnings: Sequence[str] = ()
) -> list[PushReport]:
    """Run the push and return its reports in the order of the destinations.

    The caller reports failures. With each new report, `on_known` gets all reports so far, in case
    the push is stopped; then this also prints the errors known so far. Each report without an
    error has `warnings` before its own.
    """
    from envsync.agent.operations.fewer_collections import collect_rarely

    collect_rarely()  # before the imports, which make many objects and no garbage
    from envsync.cli.pushing.view import PushView
    from envsync.push.fan_out.fan_out import FanOut
    from envsync.push.steps.report import PushReport

    view = PushView(invocation.terminal, request, verbose=invocation.verbose)
    servers = [destination.server for destination in request.destinations]
    known = InOrder(servers, PushReport.to_json, on_known)
    reports: dict[str, PushReport] = {}

    def on_report(report: PushReport) -> None:
        if report.error is None:  # the warnings are about what this push does nevertheless
            report = replace(report, warnings=(*warnings, *report.warnings))
        reports[report.server] = report
        known.add(report.server, report)
        view.on_report(report)

    fan_out = FanOut(
        request.settings, request.source, request.destinations, view.on_progress, on_report
    )
    try:
        with view:
            fan_out.run()
    except KeyboardInterrupt:
        for report in fan_out.in_doubt():
            on_report(report)
        # A copy, because a push may still end in a thread.
        invocation.terminal.errors(_errors(list(reports.values())))
        raise
    in_order = [reports[server] for server in servers]
    view.conclude(in_order)
    return in_order


def _errors(reports: Sequence[PushReport]) -> list[EnvsyncError]:
    return [report.error for report in reports if report.error is not None]


def _raise_failures(invocation: Invocation, reports: Sequence[PushReport], source: str) -> None:
    errors = _errors(reports)
    if errors and len(errors) == len(reports):
        common = _common_error(errors)
        if common is not None:
            common.server = source
            raise common
    invocation.terminal.raise_all(errors, len(reports))


def _is_about_source(error: EnvsyncError) -> bool:
    """Return whether the error is about the source and the same for every server.

    That the source shrank is not, because it is found by comparison with one target.
    """
    return isinstance(error, SourceRefused) and not isinstance(error, SourceShrunk)


def _common_error(errors: Sequence[EnvsyncError]) -> EnvsyncError | None:
    """Return the error if it is about the source and all of `errors` are the same, else None."""
    first = errors[0]
    # What is missing for several servers alike is missing at the source.
    about_source = _is_about_source(first) or (len(errors) > 1 and isinstance(first, NotFound))
    alike = {(error.code, error.message, error.details) for error in errors}
    return first if about_source and len(alike) == 1 else None
