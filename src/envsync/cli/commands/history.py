"""`envsync history`: what happened to an environment on the servers."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from envsync.agent.wire.checked_json import from_json, to_json
from envsync.cli.invocation.arguments import environment_argument, servers_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import moment
from envsync.errors import AgentFailed, NotFound
from envsync.tree.revision import short

if TYPE_CHECKING:
    from envsync.agent.wire.figures import OnFigure
    from envsync.agent.wire.messages import RecordFacts
    from envsync.push.ends.end import End
    from envsync.push.queries.servers import Outcome
    from envsync.push.request.places import Place

TITLES = ("WHEN", "SERVER", "NUMBER", "WHAT", "REVISION", "BY", "KEPT")
VERBOSE_TITLES = (*TITLES, "FROM", "TRANSPORT")
OPTIONAL = "TRANSPORT FROM BY REVISION"
"""The columns that a narrow terminal goes without: by its number, a version can be put back."""
MADE_THERE = ("rebuild",)
_WHAT = {
    "publish": "published",
    "rollback": "rolled back",
    "adopt": "put on record",
    "remove": "removed",
}


class Event(NamedTuple):
    """Something that happened; `number` is that of the version which is there since."""

    event: str = ""
    number: int = 0
    when_seconds: float = 0.0
    revision: str = ""
    source_revision: str = ""
    replaced_revision: str = ""
    who: str = ""
    source: str = ""
    method: str = ""
    transport: str = ""
    changes: tuple[str, ...] = ()


class Past(NamedTuple):
    """What happened on a server, and the earlier versions that are kept there, oldest first.

    `held` are the revisions that are refused there, each with the reason.
    """

    events: tuple[Event, ...] = ()
    kept: tuple[RecordFacts, ...] = ()
    held: Mapping[str, str] = MappingProxyType({})


@click.command()
@environment_argument
@servers_argument()
@common_options
@click.pass_obj
def history(invocation: Invocation, environment: str, servers: tuple[str, ...]) -> None:
    """Show what was published to ENV on each SERVER, when, by whom and from where.

    Without SERVER, show the servers in its `push_to` in the inventory. A version that is KEPT
    can be put back with `envsync rollback --to NUMBER`.
    """
    from envsync.cli.invocation.asking import ask_servers, raise_failures, target_of

    site = invocation.site()
    places = [site.place(server) for server in site.servers_of("history", environment, servers)]

    def ask(end: End, place: Place, _: OnFigure) -> Past:
        try:
            answer = target_of(site, environment, end, place).history()
        except NotFound:
            if servers:
                raise
            return Past()  # the inventory names the server; the environment is not there yet
        return Past(tuple(events_of(answer.events)), answer.generations, answer.held)

    invocation.result = {"environment": environment}
    outcomes = ask_servers(invocation, "history", places, ask, _document)
    answers = [(outcome.server, outcome.value) for outcome in outcomes if outcome.value is not None]
    rows = [row for server, past in answers for row in rows_of(server, past)]
    if rows:
        titles = VERBOSE_TITLES if invocation.verbose else TITLES
        shown = [row[: len(titles)] for _, row in sorted(rows, key=operator.itemgetter(0))]
        invocation.terminal.table(titles, shown, right="NUMBER", optional=OPTIONAL)
    for server, past in answers:
        for line in _remarks(server, past, invocation.verbose):
            invocation.terminal.say(line)
    for server, past in answers:
        if not any(past):
            invocation.terminal.say(f"{environment} on {server}: nothing was published there")
    raise_failures(invocation.terminal, outcomes)


def events_of(lines: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    """Yield the history as docs/json.md describes it.

    It comes from a file on the server. A line that is malformed is left out.
    """
    for line in lines:
        with contextlib.suppress(AgentFailed):
            event = from_json(Event, line)
            yield event._replace(revision=event.revision or event.source_revision)


def rows_of(server: str, past: Past) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Yield each line of the table, and when it happened."""
    kept = {record.number for record in past.kept}
    for event in past.events:
        yield (
            event.when_seconds,
            (
                moment(event.when_seconds),
                server,
                str(event.number),
                _WHAT.get(event.event, event.event),
                # All commands show the source's, because relocation changes only the server's.
                short(event.source_revision or event.revision),
                event.who,
                "yes" if event.number in kept else "-",
                event.source,
                event.transport or (event.method if event.method in MADE_THERE else "-"),
            ),
        )
    # A version made by hand, or taken back after its check, was never published.
    published = {event.number for event in past.events}
    for record in past.kept:
        if record.number not in published:
            when, revision = record.when_seconds, short(record.source_revision or record.revision)
            cells = (moment(when), server, str(record.number), "kept", revision)
            yield when, (*cells, "-", "yes", "-", "-")


def _remarks(server: str, past: Past, verbose: bool) -> Iterator[str]:
    """Yield why versions are kept in any case, what is held, and what a rebuild relaxed."""
    for record in past.kept:
        if record.kept_because:
            yield f"{server} {record.number} kept: {record.kept_because}"
    for revision, reason in past.held.items():
        yield f"{server} held {short(revision)}: {reason}"
    for event in past.events if verbose else ():
        for change in event.changes:
            yield f"{server} {event.number} relaxed: {change}"


def _document(outcome: Outcome[Past]) -> dict[str, object]:
    past = outcome.value or Past()
    return {
        **outcome.document(),
        "events": [event._asdict() for event in past.events],
        "generations": to_json(past.kept),
        "held": [{"revision": name, "reason": reason} for name, reason in past.held.items()],
    }
