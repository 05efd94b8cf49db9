"""`envsync gc`: free disk on servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from envsync.agent.wire.checked_json import to_json
from envsync.cli.invocation.arguments import servers_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import count
from envsync.errors import EnvsyncError, Locked, PreflightRefused
from envsync.hint_commands import command_line
from envsync.texts.sizes import size

if TYPE_CHECKING:
    from envsync.agent.wire.figures import OnFigure
    from envsync.agent.wire.server_operations import Collect, GcFacts, SweepFacts
    from envsync.cli.invocation.site import Site
    from envsync.push.ends.end import End
    from envsync.push.queries.servers import Outcome
    from envsync.push.request.places import Place


@click.command()
@servers_argument()
@click.option(
    "--drifted",
    is_flag=True,
    help="Also remove versions that were changed by hand or came from another source, "
    "and what damaged records kept.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be freed.")
@common_options
@click.pass_obj
def gc(invocation: Invocation, servers: tuple[str, ...], drifted: bool, dry_run: bool) -> None:
    """Free disk space on each SERVER: earlier versions beyond `keep` (all, of an environment that
    was removed), the remains of interrupted pushes, and caches of trees that no longer exist.

    Without SERVER, on all servers of the inventory and this machine. The present version of an
    environment is never removed, nor one that a process has open.
    The exit status is 14 if an environment was skipped because of a running push
    (of several servers, 20).
    """
    from envsync.agent.wire.server_operations import COLLECT
    from envsync.cli.invocation.asking import ask_servers, raise_failures
    from envsync.push.ends.command_locks import CommandLocks

    site = invocation.site()
    places = site.places_or_all(servers)
    command = CommandLocks([place.server for place in places]).command

    def ask(end: End, place: Place, on_progress: OnFigure) -> GcFacts:
        request = _request(site, place, command, drifted=drifted, dry_run=dry_run)
        return end.ask(COLLECT, request, on_progress=on_progress)

    invocation.result = {"dry_run": dry_run}
    outcomes = ask_servers(invocation, "gc", places, ask, _document, _problem)
    for outcome in outcomes:
        if outcome.value is not None:
            for line in _lines(outcome.server, outcome.value, dry_run=dry_run):
                invocation.terminal.say(line)
    raise_failures(invocation.terminal, outcomes)


def _request(site: Site, place: Place, command: str, *, drifted: bool, dry_run: bool) -> Collect:
    from envsync.agent.wire.server_operations import Collect
    from envsync.agent.wire.target_operations import Requester
    from envsync.cli.invocation.asking import environments_at
    from envsync.inventory.model import DEFAULT_KEEP

    environments = environments_at(site, place)
    return Collect(
        prefix=environments.prefix,
        requester=Requester(f"{site.who} (gc)", command, place.server),
        keep=DEFAULT_KEEP,
        keep_of={entry.name: entry.keep for entry in site.inventory.environments},
        local=environments.local,
        local_of=environments.local_of,
        drifted=drifted,
        dry_run=dry_run,
    )


def _problem(server: str, freed: GcFacts) -> EnvsyncError | None:
    """Return an error if an environment was locked or could not be cleaned."""
    swept_here = [swept for swept in freed.environments if not swept.same_place_as]
    locked = [swept.locked for swept in swept_here if swept.locked]
    problems = [problem for swept in freed.environments for problem in swept.problems]
    if problems:
        return PreflightRefused(
            f"{count(len(problems), 'thing')} could not be removed",
            details=[*problems, *locked],
            hint=f"correct that there (`{command_line('doctor', server)}` checks its "
            "disk), or let their owner run `envsync gc`",
            server=server,
        )
    if locked:
        return Locked(
            f"{count(len(locked), 'environment was', 'environments were')} skipped",
            details=locked,
            server=server,
        )
    return None


def _document(outcome: Outcome[GcFacts]) -> dict[str, object]:
    return {
        **outcome.document(),
        "freed": None if outcome.value is None else to_json(outcome.value),
    }


def _lines(server: str, freed: GcFacts, *, dry_run: bool) -> Iterator[str]:
    done = "would be freed" if dry_run else "freed"
    idle = True
    for swept in freed.environments:
        parts = list(_parts(swept))
        has_lines = parts or swept.stays or swept.making
        idle = idle and not (has_lines or swept.locked or swept.problems)
        if swept.same_place_as:
            yield f"{swept.name} on {server}: it is the same place as {swept.same_place_as}"
        if has_lines:
            what = "nothing to free"
            if parts:
                what = f"{', '.join(parts)}: {size(swept.size_bytes)} {done}"
            yield f"{swept.name} on {server}: {what}"
        for reason in swept.stays:
            yield f"  stays: {reason}"
        if swept.making:
            yield f"  a tree is being made there for the next push: {swept.making}"
            yield "  without --dry-run it is stopped and removed"
    if freed.cache_files:
        entries = count(freed.cache_files, "stale entry", "stale entries")
        yield f"{server}: {entries} of the user's cache: {size(freed.cache_bytes)} {done}"
    elif idle:
        yield f"{server}: nothing to free"


def _parts(swept: SweepFacts) -> Iterator[str]:
    if swept.generations:
        yield count(len(swept.generations), "earlier version")
    if swept.unfinished:
        yield count(swept.unfinished, "unfinished push", "unfinished pushes")
    if swept.size_bytes and not swept.generations and not swept.unfinished:
        yield "leftovers"
