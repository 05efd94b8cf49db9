"""`envsync history`: what happened to an environment on the servers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from envsync.cli.invocation.arguments import environment_argument, servers_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import moment
from envsync.errors import NotFound

if TYPE_CHECKING:
    from envsync.cli.invocation.asking import OnProgress
    from envsync.push.ends.end import End
    from envsync.push.queries.servers import Outcome
    from envsync.push.request.places import Place

TITLES = ("WHEN", "SERVER", "NUMBER", "WHAT", "REVISION", "BY")
VERBOSE_TITLES = (*TITLES, "FROM", "TRANSPORT")
MADE_THERE = ("rebuild",)
_NUMBER_MAX = 2**33
_WHAT = {
    "publish": "published",
    "rollback": "rolled back",
    "adopt": "put on record",
    "remove": "removed",
}


class Event(NamedTuple):
    """One line of the history; `number` is what `rollback --to` takes."""

    event: str
    number: int
    when_seconds: float
    revision: str
    source_revision: str
    replaced_revision: str
    who: str
    source: str
    method: str
    transport: str
    changes: tuple[str, ...]


@click.command()
@environment_argument
@servers_argument()
@common_options
@click.pass_obj
def history(invocation: Invocation, environment: str, servers: tuple[str, ...]) -> None:
    """Show what was published to ENV on each SERVER, when, by whom and from where.

    Without SERVER, show the servers in its `push_to` in the inventory. NUMBER is the number
    for `envsync rollback --to`.
    """
    from envsync.cli.invocation.asking import ask_servers, raise_failures, target_of

    site = invocation.site()
    places = [site.place(server) for server in site.servers_of("history", environment, servers)]

    def ask(end: End, place: Place, _: OnProgress) -> list[Event]:
        try:
            return list(map(_event, target_of(site, environment, end, place).history()))
        except NotFound:
            if servers:
                raise
            return []  # the inventory names the server, but the environment is not there yet

    invocation.result = {"environment": environment}
    outcomes = ask_servers(invocation, "history", places, ask, _document)
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    if rows:
        titles = VERBOSE_TITLES if invocation.verbose else TITLES
        shown = [row[: len(titles)] for row in sorted(rows, key=operator.itemgetter(0))]
        invocation.terminal.table(titles, shown, right="NUMBER", optional="TRANSPORT FROM BY")
    for line in _changes(outcomes) if invocation.verbose else ():
        invocation.terminal.say(line)
    for outcome in outcomes:
        if outcome.error is None and not outcome.value:
            text = f"{environment} on {outcome.server}: nothing was published there"
            invocation.terminal.say(text)
    raise_failures(invocation.terminal, outcomes)


def _event(line: Mapping[str, Any]) -> Event:
    """Return a line of the history as docs/json.md describes it.

    It comes from a file on the server: malformed fields are left empty instead of ending the
    command.
    """
    return Event(
        event=_text(line, "event"),
        number=int(_number(line, "number")),
        when_seconds=float(_number(line, "when_seconds")),
        revision=_text(line, "revision") or _text(line, "source_revision"),
        source_revision=_text(line, "source_revision"),
        replaced_revision=_text(line, "replaced_revision"),
        who=_text(line, "who"),
        source=_text(line, "source"),
        method=_text(line, "method"),
        transport=_text(line, "transport"),
        changes=_texts(line, "changes"),
    )


def _text(line: Mapping[str, Any], key: str) -> str:
    value = line.get(key)
    return value if isinstance(value, str) else ""


def _texts(line: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = line.get(key)
    return tuple(text for text in value if isinstance(text, str)) if type(value) is list else ()


def _number(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    return value if isinstance(value, int | float) and 0 <= value < _NUMBER_MAX else 0


def _rows(outcome: Outcome[list[Event]]) -> Iterator[tuple[str, ...]]:
    from envsync.tree.revision import short

    for event in outcome.value or ():
        yield (
            moment(event.when_seconds),
            outcome.server,
            str(event.number),
            _WHAT.get(event.event, event.event),
            # All commands show the source's revision, because relocation changes only the server's.
            short(event.source_revision or event.revision),
            event.who,
            event.source,
            event.transport or (event.method if event.method in MADE_THERE else "-"),
        )


def _changes(outcomes: Sequence[Outcome[list[Event]]]) -> Iterator[str]:
    """Yield the pins that were relaxed where a version was rebuilt."""
    for outcome in outcomes:
        for event in outcome.value or ():
            for change in event.changes:
                yield f"{outcome.server} {event.number} relaxed: {change}"


def _document(outcome: Outcome[list[Event]]) -> dict[str, object]:
    return {
        **outcome.document(),
        "events": [event._asdict() for event in outcome.value or ()],
    }
