"""`envsync list`: which environment is on which server."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from envsync.agent.wire.checked_json import to_json
from envsync.cli.invocation.arguments import servers_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import age
from envsync.texts.sizes import size
from envsync.tree.revision import short

if TYPE_CHECKING:
    from envsync.agent.wire.figures import OnFigure
    from envsync.agent.wire.server_operations import ListFacts
    from envsync.push.ends.end import End
    from envsync.push.queries.servers import Outcome
    from envsync.push.request.places import Place

TITLES = (
    "ENVIRONMENT", "SERVER", "REVISION", "PACKAGES", "SIZE", "KEPT", "PUBLISHED", "BY", "",
)  # fmt: skip


@click.command("list")
@servers_argument()
@common_options
@click.pass_obj
def list_(invocation: Invocation, servers: tuple[str, ...]) -> None:
    """Show which environments are on which SERVER: their revisions, and who published them.

    Without SERVER, show all servers of the inventory and this machine. The same revision means
    the same version, also under another prefix. One that was rebuilt there (--method rebuild)
    has the revision of its source.
    """
    from envsync.agent.wire.server_operations import LIST
    from envsync.cli.invocation.asking import ask_servers, environments_at, raise_failures

    site = invocation.site()

    def ask(end: End, place: Place, _: OnFigure) -> ListFacts:
        return end.ask(LIST, environments_at(site, place))

    places = site.places_or_all(servers)
    outcomes = ask_servers(invocation, "list", places, ask, _document)
    rows = [row for outcome in outcomes for row in rows_of(outcome)]
    if rows:
        invocation.terminal.table(
            TITLES,
            sorted(rows, key=operator.itemgetter(0)),
            right="PACKAGES SIZE KEPT",
            optional="BY KEPT PACKAGES PUBLISHED",
        )
    for outcome in outcomes:
        if outcome.value is not None and not outcome.value.environments:
            invocation.terminal.say(f"no environments on {outcome.server}")
    raise_failures(invocation.terminal, outcomes)


def rows_of(outcome: Outcome[ListFacts]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each environment of a server; what could not be read is shown as `-`."""
    from envsync.agent.wire.messages import KEPT

    if outcome.value is None:
        return
    for facts in outcome.value.environments:
        record = facts.record
        # The source's revision is the same everywhere, even where another prefix is written in the
        # files.
        revision = facts.revision if record is None or facts.drifted else record.source_revision
        # One that was put back: who replaced it put it on record, and nobody published it.
        by_hand = "made by hand there" if record is not None and record.method == KEPT else ""
        yield (
            facts.name,
            outcome.server,
            short(revision) or "-",
            str(facts.packages) if facts.revision else "-",
            size(facts.totals.size_bytes) if facts.revision else "-",
            "-" if facts.problem else str(facts.generations),
            # Both times are by the server's clock, which may be far from this machine's.
            "-" if record is None else age(record.when_seconds, outcome.value.time_seconds),
            "-" if record is None else record.who,
            facts.problem or ("changed there since" if facts.drifted else by_hand),
        )


def _document(outcome: Outcome[ListFacts]) -> dict[str, object]:
    return {
        **outcome.document(),
        "environments": to_json(outcome.value.environments) if outcome.value else [],
    }
