"""The outcome of a push in words."""

from __future__ import annotations

from collections.abc import Iterator

from envsync.agent.wire.messages import PlanFacts
from envsync.cli.output.wording import contents, count, duration, in_use, tool_run
from envsync.cli.pushing.request import PushRequest
from envsync.errors import listed
from envsync.push.request.method import ASKED_FOR, MIRROR, REBUILD
from envsync.push.steps.report import (
    ADOPTED,
    FAILED,
    IN_STEP,
    PLANNED,
    PUSHED,
    PushReport,
    ServerProgress,
)
from envsync.texts.redaction import redacted
from envsync.texts.sizes import size
from envsync.transport.names import DIRECT
from envsync.tree.revision import short

PACKAGES_SHOWN = 20
CHANGES_SHOWN = 10
PROCESSES_SHOWN = 3
COMMAND_CHARACTERS_MAX = 60
STEPS_SHOWN_FROM_SECONDS = 0.05
REUSE_SHOWN_FROM_BYTES = 1 << 20


def start_line(request: PushRequest) -> str:
    """Return `myenv -> server2, server3 ...`, with the source if it is another server."""
    names = [destination.server for destination in request.destinations]
    source = "" if request.source.open_link is None else f": {request.source.server}"
    name, there = request.settings.environment, request.settings.name_there
    renamed = "" if there == name else f" as {there}"
    return f"{name}{source} -> {listed(names)}{renamed} ..."


def wait_line(environment: str, progress: ServerProgress) -> str:
    """Return a line that names the processes a push waits for, and the longest wait."""
    uses = progress.waits_for
    users = count(len(uses), "process uses it", "processes use it")
    names = [f"{use.label} {_shortened(use.command)}" for use in uses]
    shown = listed(names, PROCESSES_SHOWN)
    most = duration(progress.wait_seconds)
    return f"{environment} -> {progress.server}: {users}; waiting, {most} at most: {shown}"


def tool_line(environment: str, progress: ServerProgress) -> str:
    """Return a line that names the tool that begins to run on a server."""
    after = f", after {duration(progress.step_seconds)}" if progress.attempt > 1 else ""
    run = tool_run(progress.tool, progress.attempt)
    return f"{environment} -> {progress.server}: {run}{after} ..."


def _shortened(command: str) -> str:
    shown = redacted(command)
    most = COMMAND_CHARACTERS_MAX
    return shown if len(shown) <= most else shown[:most] + " ..."


def report_lines(report: PushReport, *, verbose: bool) -> Iterator[str]:
    """Yield the outcome on one line, and below it the details."""
    yield f"{report.environment} -> {report.server}: {_outcome(report)}"
    if report.outcome == PLANNED:
        yield from _plan_lines(report, verbose)
    yield from _method_lines(report, verbose)
    if report.share and report.outcome in (PLANNED, PUSHED):
        yield f"  shared: {report.share}"
    for note in (report.recovered, report.overwritten, report.put_back):
        if note:
            yield f"  {note}"
    if report.in_use:
        yield f"  {in_use(len(report.in_use))}"
    if verbose:
        yield from _verbose_lines(report)


def _outcome(report: PushReport) -> str:
    if report.outcome == FAILED:
        code = "" if report.error is None else f" ({report.error.code})"
        return f"failed{code}, {duration(report.seconds)}"
    if report.outcome in (IN_STEP, ADOPTED):
        recorded = ""
        if report.outcome == ADOPTED:
            recorded = ", put on record"
        elif report.record is None:
            recorded = ", would be put on record"
        return f"already at {_revision(report)}{recorded} ({duration(report.seconds)})"
    if report.outcome == PLANNED:
        refused = "" if report.error is None else "would be refused; otherwise "
        return f"{refused}{_contents(report)}; {_sending(report)}"
    return f"{_contents(report)}; {_sending(report)}, {duration(report.seconds)}"


def _revision(report: PushReport) -> str:
    """Return the revision as `list` shows it, or would show it.

    The record may be of a push from another server.
    """
    record = report.record
    return short(report.source_revision if record is None else record.source_revision)


def _contents(report: PushReport) -> str:
    if report.totals is None:
        return _revision(report)
    return contents(report.totals.files, report.totals.size_bytes)


def _sending(report: PushReport) -> str:
    """Return what was sent, or in a dry run what would be."""
    plan, is_planned = report.plan, report.outcome == PLANNED
    if report.method == REBUILD:
        return f"{'would be ' if is_planned else ''}rebuilt there with {report.tool}"
    if plan is None:
        return "nothing to send"
    rest = _reused(plan) + _removed(plan, is_planned)
    if not plan.fetch_files:
        return f"nothing to send{rest}"
    files, sent = count(plan.fetch_files, "file"), size(plan.fetch_bytes)
    wire_bytes = report.predicted_wire_bytes if is_planned else report.wire_bytes
    wire = "" if wire_bytes is None else f"{size(wire_bytes)} on the wire"
    if is_planned:
        about = f", about {wire}" if wire else ""
        return f"{files} to send ({sent}{about}){rest}"
    # What goes directly from server to server has no choice of transport.
    is_told = report.route and report.transport == DIRECT
    transport = "" if is_told else report.transport
    how = ", ".join(part for part in (sent, wire, transport, report.route) if part)
    return f"{files} sent ({how}){rest}"


def _removed(plan: PlanFacts, is_planned: bool) -> str:
    """Return how many files are removed, or "" if no more than are sent: the usual update."""
    if plan.removed_files <= plan.fetch_files:
        return ""
    would_be = "would be " if is_planned else ""
    return f", {count(plan.removed_files, 'file')} {would_be}removed"


def _reused(plan: PlanFacts) -> str:
    """Return where the target reused contents from, or "" if they are too small to mention."""
    if not plan.reused_from or plan.reused_bytes < REUSE_SHOWN_FROM_BYTES:
        return ""
    return f", {size(plan.reused_bytes)} reused from {listed(plan.reused_from)}"


def _method_lines(report: PushReport, verbose: bool) -> Iterator[str]:
    """Yield the reason for the method if it is not obvious, and the pins that were relaxed."""
    is_chosen = report.method != MIRROR and report.method_reason != ASKED_FOR
    if report.method and (verbose or report.outcome == PLANNED or is_chosen):
        yield f"  method {report.method}: {report.method_reason}"
    shown = report.changes if verbose else report.changes[:CHANGES_SHOWN]
    for change in shown:
        yield f"  relaxed: {change}"
    if len(report.changes) > len(shown):
        yield f"  and {len(report.changes) - len(shown)} more were relaxed: see them with -v"


def _plan_lines(report: PushReport, verbose: bool) -> Iterator[str]:
    plan = report.plan
    if plan is None:
        return
    shown = plan.packages if verbose else plan.packages[:PACKAGES_SHOWN]
    for line in shown:
        yield f"  {line}"
    if len(plan.packages) > len(shown):
        yield f"  and {len(plan.packages) - len(shown)} more packages: see them with -v"
    if plan.copy_files:
        copied = f"{count(plan.copy_files, 'file')} ({size(plan.copy_bytes)})"
        yield f"  {copied} would be copied on the server"
    yield f"  disk space needed: {size(plan.new_bytes)}"


def _verbose_lines(report: PushReport) -> Iterator[str]:
    if report.revision:
        yield f"  revision {_revision(report)}"
    if report.connection:
        reason = f": {report.connection_reason}" if report.connection_reason else ""
        yield f"  connection {report.connection}{reason}"
    if report.compiled_left_out and report.outcome in (PLANNED, PUSHED):
        files = count(report.compiled_left_out, "compiled file")
        yield f"  {files} of rewritten modules left out: Python makes them anew there"
    if report.transport and report.plan is not None and report.plan.fetch_files:
        yield f"  transport {report.transport}: {report.transport_reason}"
    steps = [
        f"{step} {duration(seconds)}"
        for step, seconds in report.step_seconds.items()
        if seconds >= STEPS_SHOWN_FROM_SECONDS
    ]
    if steps:
        yield f"  {', '.join(steps)}"
    for use in report.in_use:
        yield f"  in use by {use.label}: {use.command}"
