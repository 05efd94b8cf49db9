"""`envsync history`: what happened to an environment on the servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from envsync.cli.invocation import Invocation
from envsync.cli.options import common_options
from envsync.cli.wording import moment

if TYPE_CHECKING:
    from envsync.cli.site import Site
    from envsync.push.ends import End
    from envsync.push.servers import Outcome, Place

TITLES = ("WHEN", "SERVER", "NUMBER", "WHAT", "REVISION", "BY")
VERBOSE_TITLES = (*TITLES, "FROM", "TRANSPORT")
_WHAT = {"publish": "published", "rollback": "rolled back", "adopt": "put on record"}


@click.command(short_help="Show what was published, and by whom.")
@click.argument("environment", metavar="ENV")
@click.argument("servers", nargs=-1, metavar="[SERVER|@GROUP|RANGE]...")
@common_options
@click.pass_obj
def history(invocation: Invocation, environment: str, servers: tuple[str, ...]) -> None:
    """Show what was published to ENV on each SERVER, when, by whom and from where.

    Without servers: those that the inventory names for it. NUMBER is what
    `envsync rollback --to` takes.
    """
    from envsync.cli.server_errors import raise_failures
    from envsync.push.servers import for_each_server

    site = invocation.site()
    places = [site.place(server) for server in site.servers_of(environment, servers)]

    def ask(end: End, place: Place) -> list[Mapping[str, Any]]:
        return _history(site, environment, end, place)

    outcomes = for_each_server(places, ask)
    invocation.result = {
        "environment": environment,
        "servers": [_document(outcome) for outcome in outcomes],
    }
    rows = sorted(row for outcome in outcomes for row in _rows(outcome))
    if rows:
        titles = VERBOSE_TITLES if invocation.verbose else TITLES
        shown = [row[: len(titles)] for row in rows]
        invocation.terminal.table(titles, shown, right="NUMBER")
    for outcome in outcomes:
        if outcome.error is None and not outcome.value:
            text = f"{environment} on {outcome.server}: nothing was published there"
            invocation.terminal.say(text)
    raise_failures(invocation.terminal, outcomes)


def _history(site: Site, environment: str, end: End, place: Place) -> list[Mapping[str, Any]]:
    from envsync.push.target_end import TargetEnd

    local = site.local(environment)
    return TargetEnd(end, place.prefix, environment, local, site.who).history()


def _rows(outcome: Outcome[list[Mapping[str, Any]]]) -> Iterator[tuple[str, ...]]:
    from envsync.tree.revision import short

    for event in outcome.value or ():
        what = str(event.get("event", ""))
        number = event.get("to", event.get("number", ""))
        yield (
            moment(_seconds(event.get("when_seconds"))),
            outcome.server,
            str(number),
            _WHAT.get(what, what),
            short(str(event.get("revision") or event.get("source_revision") or "")),
            str(event.get("who", "")),
            str(event.get("source", "")),
            str(event.get("transport", "")) or "-",
        )


def _seconds(value: object) -> float:
    """A history line is a file's; what is no moment must not end the command."""
    in_range = isinstance(value, int | float) and 0 <= value < 2**33
    return float(value) if in_range and isinstance(value, int | float) else 0.0


def _document(outcome: Outcome[list[Mapping[str, Any]]]) -> dict[str, object]:
    return {
        "server": outcome.server,
        "error": None if outcome.error is None else outcome.error.to_json(),
        "events": [dict(event) for event in outcome.value or ()],
    }
