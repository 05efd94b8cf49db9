"""`envsync bootstrap`: make a new server one of the lab's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envsync.cli.invocation.arguments import server_argument
from envsync.cli.invocation.completion import server_names
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.invocation.running_daemon import tell_daemon_after
from envsync.errors import EnvsyncError, InventoryError, SomeServersFailed, UsageError
from envsync.hint_commands import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envsync.cli.invocation.in_order import OnKnown, ServerDocument
    from envsync.cli.invocation.site import Site
    from envsync.cli.pushing.request import PushOptions, PushRequest
    from envsync.push.request.places import Place
    from envsync.push.steps.report import PushReport


@click.command()
@server_argument()
@click.option(
    "--from",
    "from_server",
    metavar="SERVER",
    shell_complete=server_names,
    help="The server to take conda from.  [this machine]",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be done.")
@common_options
@click.pass_obj
def bootstrap(invocation: Invocation, server: str, from_server: str | None, dry_run: bool) -> None:
    """Give SERVER conda's base directory, then every environment that is pushed to it.

    The base is sent without its environments and package cache. If SERVER has one already, it is
    not changed. Each environment then comes from its own source. Run it again to continue after a
    failure.
    """
    from envsync.cli.pushing.following import push_and_show

    site = invocation.site()
    base = base_request(site, server, from_server, dry_run=dry_run)
    invocation.result = result = {
        "server": server,
        "dry_run": dry_run,
        "base": None,
        "then": [],
        "environments": [],
    }

    def know_base(documents: Sequence[ServerDocument]) -> None:
        result["base"] = documents[0]

    [report] = push_and_show(invocation, base, know_base)
    _require_base(invocation, report)
    names = list(_subscribed(site, server))
    result["then"] = names
    if dry_run:
        then = f"then it would get {', '.join(names)}"
        invocation.terminal.say(then if names else "no environment is pushed there")
        return
    [target] = base.destinations
    # If the target is this machine, environments without a source of their own come from the server
    # that conda came from.
    else_from = base.source.server if target.open_link is None else site.own_name
    sources = {name: site.inventory.environment(name).source or else_from for name in names}
    reports = _push_each(invocation, site, sources, server, result)
    _raise_failures(invocation, reports, server)
    invocation.terminal.say(f"{server} is ready{_for_shells(base.source, target.prefix)}")


def _for_shells(source: Place, prefix: str) -> str:
    """Return what gives the server's shells conda; "" if the base has only another tool."""
    if source.open_link is None and not Path(source.prefix, "bin/conda").exists():
        return ""
    return f"; for its shells, run there: {shlex.quote(f'{prefix}/bin/conda')} init"


def _require_base(invocation: Invocation, report: PushReport) -> None:
    """Raise the base's error; that the server has a base already is only noted."""
    from envsync.push.preflight.replacement import ANOTHER_BASE

    error = report.error
    if error is not None and error.message == ANOTHER_BASE:
        invocation.terminal.note(f"{report.server}: {error.message}")
    elif error is not None:
        raise error


def base_request(
    site: Site, server_name: str, from_server: str | None, *, dry_run: bool
) -> PushRequest:
    """Return a push of the prefix itself, from this machine or another server."""
    from envsync.agent.places.base import OWN_ENTRIES
    from envsync.cli.pushing.request import PushRequest
    from envsync.push.request.places import Destination
    from envsync.push.request.settings import PushSettings
    from envsync.tree.environment_name import BASE
    from envsync.tree.local import DEFAULT_LOCAL

    server = site.server(server_name)
    source = site.here_place() if from_server is None else site.place(site.server(from_server))
    if server.name == source.server:
        raise UsageError(
            f"{server.name} is where conda comes from",
            hint="name a server without conda, or with --from another that has it",
        )
    settings = PushSettings(
        environment=BASE,
        source=f"{source.server}:{source.prefix}",
        who=site.who,
        local=(*DEFAULT_LOCAL, *OWN_ENTRIES),
        dry_run=dry_run,
    )
    destination = Destination(
        server.name,
        site.prefix(server),
        site.opener(server),
        server.limit_bits_per_second,
        server.share,
    )
    return PushRequest(settings, source, (destination,))


def _subscribed(site: Site, server: str) -> Iterator[str]:
    """Yield the environments that the inventory pushes to `server`."""
    for environment in site.inventory.environments:
        try:
            targets = {target.name for target in site.inventory.targets(environment.name)}
        except InventoryError:
            continue  # it is pushed nowhere
        if server in targets:
            yield environment.name


def _push_each(
    invocation: Invocation,
    site: Site,
    sources: Mapping[str, str],
    server: str,
    result: dict[str, Any],
) -> list[PushReport]:
    """Push the environments, each from its source; `result` has the reports so far."""
    from envsync.cli.pushing.request import PushOptions

    reports: list[PushReport] = []

    def know(under_way: Sequence[ServerDocument] = ()) -> None:
        result["environments"] = [*(report.to_json() for report in reports), *under_way]

    for name, source in sources.items():
        options = PushOptions(name, (server,), from_server=source)
        reports.append(_push_one(invocation, site, options, know))
        know()
    return reports


def _push_one(
    invocation: Invocation, site: Site, options: PushOptions, on_known: OnKnown
) -> PushReport:
    """Push an environment to one server, and return the report, also of what fails beforehand."""
    from envsync.cli.pushing.following import push_and_show
    from envsync.cli.pushing.request import resolve_push
    from envsync.push.steps.report import FAILED, PushReport

    environment = site.inventory.environment(options.environment)
    try:
        request = resolve_push(site, options)
        with tell_daemon_after(environment, options.servers, invocation.environ):
            [report] = push_and_show(invocation, request, on_known)
    except EnvsyncError as error:
        return PushReport(options.servers[0], environment.name, FAILED, error=error)
    return report


def _raise_failures(invocation: Invocation, reports: Sequence[PushReport], server: str) -> None:
    errors: list[Any] = [report.error for report in reports if report.error is not None]
    if errors:
        invocation.terminal.errors(errors)
        failed = f"{len(errors)} of {len(reports)} environments"
        if len(reports) == 1:
            failed = reports[0].environment
        raise SomeServersFailed(
            f"{failed} did not arrive on {server}",
            hint=f"when that is solved: {command_line('bootstrap', server)}",
        )
