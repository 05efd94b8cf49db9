"""`envsync doctor`: what is wrong with the servers, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from envsync.cli.invocation.arguments import servers_argument
from envsync.cli.invocation.in_order import InOrder, servers_in
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import count, offset, size
from envsync.errors import PreflightRefused, SomeServersFailed

if TYPE_CHECKING:
    from envsync.cli.invocation.site import Site
    from envsync.push.queries.diagnosis import Complaint
    from envsync.push.queries.examination import Examination
    from envsync.push.request.places import Place

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
    places = site.places(servers) if servers else site.everywhere()
    known = servers_in(invocation, places, _document)
    examinations = _examined(invocation, site, places, known)
    terminal = invocation.terminal
    rows = [_row(found) for found in examinations]
    terminal.table(TITLES, rows, right="FREE CLOCK", turns=True)
    if invocation.verbose:
        for line in _environment_lines(examinations):
            terminal.say(line)
    told = [one for found in examinations for one in _complaints(found)]
    for line in _complaint_lines([one for one in told if not one.fails]):
        terminal.say(line)
    if not told:
        servers_found = count(len(examinations), "server")
        terminal.say(f"no problems on {servers_found}")
    _raise(invocation, examinations, [one for one in told if one.fails])


def _examined(
    invocation: Invocation, site: Site, places: Sequence[Place], known: InOrder[Examination]
) -> list[Examination]:
    from envsync.cli.invocation.asking import environments_at, lines_that_move
    from envsync.push.queries.examination import examine
    from envsync.push.queries.servers import for_each_place
    from envsync.push.steps.report import ServerProgress

    with lines_that_move(invocation.terminal, places) as (show, forget):

        def visit(place: Place) -> Examination:
            show(ServerProgress(place.server, "examine"))
            publishers = site.inventory.publishers(place.server)
            found = examine(place, environments_at(site, place), publishers)
            known.add(place.server, found)
            return found

        outcomes = for_each_place(places, visit, lambda outcome: forget(outcome.server))
    return [outcome.answer() for outcome in outcomes]


def _complaints(found: Examination) -> tuple[Complaint, ...]:
    from envsync.agent.server.facts import platform_facts
    from envsync.push.queries.diagnosis import complaints

    return complaints(found, platform_facts())


def _row(found: Examination) -> tuple[str, ...]:
    from envsync.agent.server.conda_tool import TOOLS

    key = {None: "-", True: "known", False: "REFUSED"}[found.is_key_known]
    reached = {None: "-", True: found.connection or "yes", False: "NO"}[found.is_reached]
    health = found.health
    if health is None:
        rest = ["-"] * (len(TITLES) - 3)
        rest[-1] = "" if found.error is None else found.error.code
        return (found.server, reached, key, *rest)
    tools = {tool.name: tool for tool in health.tools}
    platform = health.server.platform
    managers = [tool for tool in health.tools if tool.name in TOOLS]
    return (
        found.server,
        reached,
        key,
        "yes" if health.prefix.exists else "NONE",
        health.python_version,
        (tools["rsync"].version or "yes") if "rsync" in tools else "none",
        "yes" if "zstd" in health.server.codecs else "no",
        " ".join(managers[0][::2]) if managers else "none",
        "yes" if found.noise.strip() else "-",
        platform.machine,
        f"{platform.libc} {platform.libc_version}".strip(),
        health.cuda or "-",
        size(health.prefix.free_bytes),
        offset(found.clock_off_seconds),
        _environments(found),
    )


def _environments(found: Examination) -> str:
    """Return counts such as `3` or `3 (1 changed, 1 unpublished)`."""
    assert found.health is not None
    standing = found.health.environments
    odd = [one.state for one in standing if one.state != "published"]
    parts = ", ".join(f"{odd.count(state)} {state}" for state in sorted(set(odd)))
    return f"{len(standing)} ({parts})" if parts else str(len(standing))


def _environment_lines(examinations: Sequence[Examination]) -> Iterator[str]:
    for found in examinations:
        for one in found.health.environments if found.health else ():
            reason = f": {one.reason}" if one.reason else ""
            yield f"{one.name} on {found.server}: {one.state}{reason}"


def _complaint_lines(complaints: Sequence[Complaint]) -> Iterator[str]:
    """Yield each distinct complaint once, with its servers and the first one's command."""
    from envsync.cli.output.terminal import listed

    alike: dict[str, list[Complaint]] = {}
    for complaint in complaints:
        alike.setdefault(complaint.what, []).append(complaint)
    for what, same in alike.items():
        yield f"{listed([complaint.server for complaint in same])}: {what}"
        yield f"  → {same[0].command}"


def _raise(
    invocation: Invocation, examinations: Sequence[Examination], failing: Sequence[Complaint]
) -> None:
    """Raise the error of the only server; for several, show each and raise one with the count."""
    errors = {found.server: found.error for found in examinations if found.error is not None}
    for one in failing:
        if one.server not in errors:
            errors[one.server] = PreflightRefused(one.what, hint=one.command, server=one.server)
    if not errors:
        return
    if len(examinations) == 1:
        raise next(iter(errors.values()))
    invocation.terminal.errors(list(errors.values()))
    failed = f"{len(errors)} of {len(examinations)}"
    raise SomeServersFailed(f"{failed} servers cannot be pushed to")


def _document(found: Examination) -> dict[str, Any]:
    from envsync.agent.wire.checked_json import to_json

    health = found.health
    return {
        "server": found.server,
        "prefix": found.prefix,
        "connection": found.connection,
        "connection_reason": found.connection_reason,
        "is_reached": found.is_reached,
        "is_key_known": found.is_key_known,
        "noise_bytes": len(found.noise),
        "clock_off_seconds": found.clock_off_seconds,
        "python": None if health is None else health.server.python,
        "python_version": None if health is None else health.python_version,
        "codecs": [] if health is None else list(health.server.codecs),
        "platform": None if health is None else to_json(health.server.platform),
        "cuda": None if health is None else health.cuda,
        "place": None if health is None else to_json(health.prefix),
        "tools": [] if health is None else to_json(health.tools),
        "environments": [] if health is None else to_json(health.environments),
        "complaints": [
            {"what": one.what, "command": one.command, "fails": one.fails}
            for one in _complaints(found)
        ],
        "error": None if found.error is None else found.error.to_json(),
    }
