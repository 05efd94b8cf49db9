"""`envsync doctor`: what is wrong with the servers, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from envsync.agent.wire.checked_json import to_json
from envsync.cli.invocation.arguments import servers_argument
from envsync.cli.invocation.in_order import InOrder, servers_in
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.terminal import Terminal
from envsync.cli.output.wording import count, offset
from envsync.errors import EnvsyncError, PreflightRefused, listed
from envsync.texts.sizes import size

if TYPE_CHECKING:
    from envsync.cli.invocation.site import Site
    from envsync.push.queries.diagnosis import Complaint
    from envsync.push.queries.examination import Examination
    from envsync.push.request.places import Place
    from envsync.push.server_pool import Answered

    Examined = tuple[Examination, Sequence[Complaint]]

TITLES = (
    "SERVER", "REACHED", "KEY", "PREFIX", "PYTHON", "RSYNC", "ZSTD", "CONDA", "NOISE",
    "PLATFORM", "LIBC", "CUDA", "FREE", "CLOCK", "ENVIRONMENTS",
)  # fmt: skip


@click.command()
@servers_argument()
@common_options
@click.pass_obj
def doctor(invocation: Invocation, servers: tuple[str, ...]) -> None:
    """Examine each SERVER and its environments as a push would; change nothing.

    Print one table, then each problem with the command that solves it. Without SERVER, examine
    all servers of the inventory and this machine. The exit status is 0 if a push to every
    server could begin.
    """
    site = invocation.site()
    places = site.places_or_all(servers)
    known = servers_in(invocation, places, _document)
    examined = _examined(invocation, site, places, known)
    examinations = [examination for examination, _ in examined]
    terminal = invocation.terminal
    rows = [_row(examination) for examination in examinations]
    terminal.table(TITLES, rows, right="FREE CLOCK", turns=True)
    if invocation.verbose:
        for line in _environment_lines(examinations):
            terminal.say(line)
    errors, remarks = errors_and_remarks(examined)
    show_remarks(terminal, remarks)
    if not errors and not remarks:
        terminal.say(f"no problems on {count(len(examinations), 'server')}")
    terminal.raise_all(errors, len(examined), "servers cannot be pushed to")


def _examined(
    invocation: Invocation, site: Site, places: Sequence[Place], known: InOrder[Examined]
) -> list[Examined]:
    from envsync.agent.server.machine import platform_facts
    from envsync.cli.invocation.asking import environments_at, progress_lines
    from envsync.push.queries.diagnosis import complaints
    from envsync.push.queries.examination import examine
    from envsync.push.queries.servers import for_each_place
    from envsync.push.steps.report import ServerProgress

    with progress_lines(invocation.terminal, places) as (show, forget):

        def visit(place: Place, _: Answered) -> Examined:
            show(ServerProgress(place.server, "examine"))
            publishers = site.inventory.publishers(place.server)
            examination = examine(place, environments_at(site, place), publishers)
            examined = (examination, complaints(examination, platform_facts()))
            known.add(place.server, examined)
            return examined

        outcomes = for_each_place(places, visit, lambda outcome: forget(outcome.server))
    return [outcome.answer() for outcome in outcomes]


def _row(examination: Examination) -> tuple[str, ...]:
    from envsync.agent.server.conda_tool import TOOLS

    key = {None: "-", True: "known", False: "REFUSED"}[examination.is_key_known]
    reached = {None: "-", True: examination.connection or "yes", False: "NO"}[
        examination.is_reached
    ]
    health = examination.health
    if health is None:
        rest = ["-"] * (len(TITLES) - 3)
        rest[-1] = "" if examination.error is None else examination.error.code
        return (examination.server, reached, key, *rest)
    tools = {tool.name: tool for tool in health.tools}
    platform = health.server.platform
    managers = [tool for tool in health.tools if tool.name in TOOLS]
    return (
        examination.server,
        reached,
        key,
        "yes" if health.prefix.exists else "NONE",
        health.python_version,
        (tools["rsync"].version or "yes") if "rsync" in tools else "none",
        "yes" if "zstd" in health.server.codecs else "no",
        " ".join(managers[0][::2]) if managers else "none",
        "yes" if examination.noise.strip() else "-",
        platform.machine,
        f"{platform.libc} {platform.libc_version}".strip(),
        "?" if health.cuda is None else health.cuda or "-",
        size(health.prefix.free_bytes),
        offset(examination.clock_off_seconds),
        _environments(examination),
    )


def _environments(examination: Examination) -> str:
    """Return counts such as `3` or `3 (1 changed, 1 unpublished)`."""
    assert examination.health is not None
    standing = examination.health.environments
    odd = [facts.state for facts in standing if facts.state != "published"]
    parts = ", ".join(f"{odd.count(state)} {state}" for state in sorted(set(odd)))
    return f"{len(standing)} ({parts})" if parts else str(len(standing))


def _environment_lines(examinations: Sequence[Examination]) -> Iterator[str]:
    for examination in examinations:
        for facts in examination.health.environments if examination.health else ():
            reason = f": {facts.reason}" if facts.reason else ""
            yield f"{facts.name} on {examination.server}: {facts.state}{reason}"


def errors_and_remarks(
    examined: Iterable[Examined],
) -> tuple[list[EnvsyncError], list[tuple[str, Complaint]]]:
    """Return an error for each server that cannot be pushed to, and all other complaints.

    A server's first complaint becomes its error, if it fails. Complaints come with the server.
    """
    errors: list[EnvsyncError] = []
    remarks: list[tuple[str, Complaint]] = []
    for examination, complaints in examined:
        server, others = examination.server, list(complaints)
        if others and others[0].fails:
            first = others.pop(0)
            refused = PreflightRefused(first.what, hint=first.command, server=server)
            errors.append(examination.error or refused)
        remarks += [(server, complaint) for complaint in others]
    return errors, remarks


def show_remarks(terminal: Terminal, remarks: Sequence[tuple[str, Complaint]]) -> None:
    """Print each distinct complaint once, with its servers and what solves it for them."""
    from envsync.cli.output.alike import solutions

    told: dict[str, list[tuple[str, str]]] = {}
    for server, complaint in remarks:
        told.setdefault(complaint.what, []).append((server, complaint.command))
    for what, commands in told.items():
        terminal.say(f"{listed([server for server, _ in commands])}: {what}")
        for line in solutions(commands):
            terminal.say_unfolded(terminal.copyable(f"  {line}"))


def _document(examined: Examined) -> dict[str, Any]:
    examination, complaints = examined
    health = examination.health
    return {
        "server": examination.server,
        "prefix": examination.prefix,
        "connection": examination.connection,
        "connection_reason": examination.connection_reason,
        "is_reached": examination.is_reached,
        "is_key_known": examination.is_key_known,
        "noise_bytes": len(examination.noise),
        "clock_off_seconds": examination.clock_off_seconds,
        "python": None if health is None else health.server.python,
        "python_version": None if health is None else health.python_version,
        "codecs": [] if health is None else list(health.server.codecs),
        "platform": None if health is None else to_json(health.server.platform),
        "cuda": None if health is None else health.cuda,
        "place": None if health is None else to_json(health.prefix),
        "tools": [] if health is None else to_json(health.tools),
        "environments": [] if health is None else to_json(health.environments),
        "complaints": [complaint._asdict() for complaint in complaints],
        "error": None if examination.error is None else examination.error.to_json(),
    }
