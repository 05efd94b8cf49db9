"""`envsync rollback`: put an earlier version back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from envsync.agent.wire.checked_json import to_json
from envsync.cli.invocation.arguments import environment_argument, server_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.invocation.running_daemon import tell_daemon_after
from envsync.cli.output.wording import contents, in_use, moment
from envsync.hint_commands import command_line
from envsync.tree.revision import short

if TYPE_CHECKING:
    from envsync.agent.wire.figures import OnFigure
    from envsync.push.ends.end import End
    from envsync.push.request.places import Place
    from envsync.push.switches.rollback import RolledBack

_PROCESSES_SHOWN = 12


@click.command()
@environment_argument
@server_argument()
@click.option(
    "--to",
    "number",
    type=int,
    metavar="NUMBER",
    help="Its number in `envsync history`.  [the previous]",
)
@click.option(
    "--overwrite", is_flag=True, help="Even if it was changed there; this is kept as a generation."
)
@common_options
@click.pass_obj
def rollback(
    invocation: Invocation, environment: str, server: str, number: int | None, overwrite: bool
) -> None:
    """Put the previous version of ENV back on SERVER, in one step.

    The present version is kept, and is held: it is not pushed there again, except with
    `envsync push --retry-held`. The source's next version is, unless what was put back was made
    there by hand. Running processes are named and not waited for, whatever `in_use:` says: files
    that they have open do not change.
    """
    from envsync.agent.wire.messages import KEPT
    from envsync.cli.invocation.asking import ask_servers, target_again, target_of
    from envsync.push.switches.rollback import roll_back

    site = invocation.site()
    known = site.inventory.environment(environment)  # refuses base
    environment = known.name

    def ask(end: End, place: Place, _: OnFigure) -> RolledBack:
        target = target_of(site, environment, end, place)
        reopen = partial(target_again, site, environment, place)
        return roll_back(target, reopen, number, site.who, overwrite=overwrite)

    place = site.place(site.server(server))
    invocation.shown_by = command_line("history", environment, server)
    with tell_daemon_after(known, [place.server], invocation.environ):
        [outcome] = ask_servers(invocation, "roll back", [place], ask)
        rolled_back = outcome.answer()
    record = rolled_back.record
    invocation.result = {
        "environment": environment,
        "server": place.server,
        "record": to_json(record),
        "in_use": to_json(rolled_back.in_use),
        "warnings": rolled_back.warnings,
    }
    put_back = contents(record.totals.files, record.totals.size_bytes)
    invocation.terminal.say(
        f"{environment} on {place.server}: back at {short(record.source_revision)} ({put_back})"
    )
    how = f"published by {record.who}"
    if record.method == KEPT:
        how = record.kept_because or "kept as it was there"
    invocation.terminal.say(f"  number {record.number}, {how}, {moment(record.when_seconds)}")
    users = rolled_back.in_use
    if users:
        invocation.terminal.say(f"  {in_use(len(users))}")
    for use in users if invocation.verbose else users[:_PROCESSES_SHOWN]:
        invocation.terminal.say(f"  in use by {use.label}: {use.command}")
    for warning in rolled_back.warnings:
        invocation.terminal.warning(f"{place.server}: {warning}")
