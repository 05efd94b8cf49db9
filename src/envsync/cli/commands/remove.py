"""`envsync remove`: remove an environment from servers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from envsync.agent.wire.checked_json import to_json
from envsync.cli.invocation.arguments import environment_argument, servers_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.invocation.running_daemon import tell_daemon_after
from envsync.cli.output.wording import contents
from envsync.errors import EnvsyncError, UsageError
from envsync.hint_commands import command_line

if TYPE_CHECKING:
    from envsync.agent.wire.figures import OnFigure
    from envsync.cli.invocation.site import Site
    from envsync.push.ends.end import End
    from envsync.push.queries.servers import Outcome
    from envsync.push.request.places import Place
    from envsync.push.switches.remove import Removal, Removed


@click.command()
@environment_argument
@servers_argument(required=True)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be done.")
@click.option(
    "--overwrite", is_flag=True, help="Even if it was changed there or never published by envsync."
)
@click.option("--used", is_flag=True, help="Even if processes use it.")
@common_options
@click.pass_obj
def remove(
    invocation: Invocation,
    environment: str,
    servers: tuple[str, ...],
    dry_run: bool,
    overwrite: bool,
    used: bool,
) -> None:
    """Remove the environment ENV from each SERVER, in one step.

    The version is kept: `envsync rollback` brings it back until `envsync gc` removes it. The daemon
    does not push it there again; `envsync push` does.
    """
    from envsync.cli.invocation.asking import ask_servers, raise_failures, target_again, target_of
    from envsync.push.ends.command_locks import CommandLocks
    from envsync.push.switches.remove import Removal, remove_environment

    site = invocation.site()
    known = site.inventory.environment(environment)
    removal = Removal(known.name, site.who, overwrite, used, dry_run)
    places = site.places(servers)
    _refuse_source(site, removal, places)

    names = [place.server for place in places]
    command_locks = CommandLocks(names)

    def ask(end: End, place: Place, _: OnFigure) -> Removed:
        try:
            target = target_of(site, removal.environment, end, place, command_locks.command)
            reopen = partial(target_again, site, removal.environment, place)
            return remove_environment(target, reopen, removal, command_locks)
        finally:
            command_locks.over(place.server)

    if not dry_run:
        invocation.shown_by = command_line("history", removal.environment, *servers)
    invocation.result = {"environment": removal.environment, "dry_run": dry_run}
    with tell_daemon_after(known, () if dry_run else names, invocation.environ):
        outcomes = ask_servers(invocation, "remove", places, ask, _document, _refusal)
    for outcome in outcomes:
        for line in _lines(removal, outcome):
            invocation.terminal.say(invocation.terminal.copyable(line))
    raise_failures(invocation.terminal, outcomes)


def _refuse_source(site: Site, removal: Removal, places: list[Place]) -> None:
    """Raise `UsageError` if the environment's own source is among the places."""
    source = site.inventory.environment(removal.environment).source
    if source is not None and source in {place.server for place in places}:
        raise UsageError(
            f"{source} is the source of {removal.environment}: "
            "envsync removes it from targets only",
            hint=f"there: conda env remove -n {removal.environment}",
        )


def _refusal(_server: str, removed: Removed) -> EnvsyncError | None:
    """Return why a dry run found that removal would be refused."""
    return removed.refused


def _lines(removal: Removal, outcome: Outcome[Removed]) -> Iterator[str]:
    removed = outcome.value
    if removed is None:
        return
    if removed.same_place_as:
        place = f"it is the same place as {removed.same_place_as}"
        yield f"{removal.environment} on {outcome.server}: removed; {place}"
        return
    totals = removed.state.totals
    what = contents(totals.files, totals.size_bytes)
    if removed.record is None:
        verb = "would be removed" if removed.refused is None else "would be refused"
        yield f"{removal.environment} on {outcome.server}: {verb} ({what})"
        return
    yield f"{removal.environment} on {outcome.server}: removed ({what})"
    is_odd = bool(removed.record.kept_because)
    free = command_line("gc", outcome.server, *(("--drifted",) if is_odd else ()))
    back = command_line("rollback", removal.environment, outcome.server)
    why = ", since it was not what was published" if is_odd else ""
    yield f"  kept until `{free}`{why}; `{back}` brings it back"


def _document(outcome: Outcome[Removed]) -> dict[str, object]:
    removed = outcome.value
    return {
        **outcome.document(),
        "revision": "" if removed is None else removed.state.revision,
        "totals": None if removed is None else to_json(removed.state.totals),
        "record": None if removed is None else to_json(removed.record),
        "same_place_as": "" if removed is None else removed.same_place_as,
        "in_use": [] if removed is None else to_json(removed.in_use),
    }
