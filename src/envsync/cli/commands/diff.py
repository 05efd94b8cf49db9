"""`envsync diff`: how an environment differs on a server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.cli.invocation.arguments import environment_argument, server_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import count

if TYPE_CHECKING:
    from envsync.agent.wire.figures import OnFigure
    from envsync.agent.wire.target_operations import DifferenceFacts
    from envsync.cli.invocation.site import Site
    from envsync.push.ends.end import End
    from envsync.push.ends.target_end import TargetEnd
    from envsync.push.request.places import Place

PATHS_MAX = 4000
"""The most paths that fit into one answer of the agent."""


@click.command()
@environment_argument
@server_argument()
@click.option("--files", is_flag=True, help="List the files, too.")
@click.option("--published", is_flag=True, help="Compare with what was last published there.")
@click.option(
    "--as", "name_there", metavar="NAME", help="Its name on SERVER, as in `envsync push --as`."
)
@common_options
@click.pass_obj
def diff(
    invocation: Invocation,
    environment: str,
    server: str,
    files: bool,
    published: bool,
    name_there: str | None,
) -> None:
    """Show how ENV on SERVER differs from ENV here: packages first, then files by package.

    With --published, show how it differs from what was last published there. Added, removed
    and changed are as seen on SERVER.
    """
    from envsync.agent.source.package_records import record_at
    from envsync.cli.invocation.asking import ask_servers, target_of
    from envsync.cli.pushing.request import require_environment

    site = invocation.site()
    environment = site.inventory.environment(environment).name  # refuses base
    there = site.inventory.environment(name_there or environment).name
    if not published:
        require_environment(site.own_prefix, environment)

    def ask(end: End, place: Place, _: OnFigure) -> DifferenceFacts:
        if published:
            target, manifest = target_of(site, there, end, place), b""
        else:
            target, manifest = _as_pushed(site, environment, there, end, place)
        record_here = partial(record_at, f"{site.own_prefix}/envs/{environment}")
        return target.differences(manifest, PATHS_MAX if files else 0, record_here)

    place = site.place(site.server(server))
    [outcome] = ask_servers(invocation, "compare", [place], ask)
    difference = outcome.answer()
    invocation.result = {
        "environment": environment,
        "name_there": there,
        "server": place.server,
        "compared_with": "published" if published else "source",
        "difference": difference._asdict(),
    }
    reference = "what was published there" if published else site.own_name
    headline = f"{there} on {place.server}, compared with {reference}"
    for line in _lines(headline, difference, files):
        invocation.terminal.say(line)


def _as_pushed(
    site: Site, environment: str, there: str, end: End, place: Place
) -> tuple[TargetEnd, bytes]:
    """Return the environment there, and the manifest that a push of the one here would give it."""
    from envsync.push.ends.local_source import open_local
    from envsync.push.ends.target_end import TargetEnd

    local = site.local(environment)
    target = TargetEnd(end, OpenTarget(place.prefix, there, local, Requester(site.who)))
    source = open_local(site.here_place(), environment, local)
    return target, source.at(f"{place.prefix}/envs/{there}").manifest(b"")


def _lines(headline: str, difference: DifferenceFacts, files: bool) -> Iterator[str]:
    total = difference.added + difference.removed + difference.changed
    if not total:
        yield f"{headline}: no difference"
        return
    added, removed = count(difference.added, "file"), f"{difference.removed:,}"
    yield f"{headline}: {added} added, {removed} removed, {difference.changed:,} changed"
    yield from (f"  {line}" for line in difference.packages)
    yield from (f"  {line}" for line in difference.groups)
    if files:
        yield ""
        yield from (f"  {line}" for line in difference.paths)
        if total > len(difference.paths):
            yield f"  and {total - len(difference.paths):,} more"
