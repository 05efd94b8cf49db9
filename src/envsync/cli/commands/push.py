"""`envsync push`: bring an environment to other servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from envsync.cli.invocation.arguments import environment_argument, servers_argument
from envsync.cli.invocation.completion import server_names
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options, copy_options
from envsync.cli.invocation.running_daemon import install_warning, looking_again
from envsync.errors import EnvsyncError, NotFound, SomeServersFailed, SourceRefused, SourceShrunk

if TYPE_CHECKING:
    from envsync.cli.invocation.in_order import ServerDocument
    from envsync.cli.invocation.site import Site
    from envsync.cli.pushing.request import PushRequest
    from envsync.push.steps.report import PushReport


@click.command()
@environment_argument
@servers_argument()
@click.option(
    "--from",
    "from_server",
    metavar="SERVER",
    shell_complete=server_names,
    help="The server to take it from.  [this machine]",
)
@click.option("--as", "name_there", metavar="NAME", help="Its name on the servers.  [ENV]")
@click.option(
    "--method", metavar="METHOD", help="auto, mirror, pack or rebuild.  [the inventory's]"
)
@click.option(
    "--from-history",
    is_flag=True,
    help="Rebuild it there from the packages requested by name; implies --method rebuild.",
)
@click.option(
    "--transport", default="auto", metavar="NAME", help="auto, rsync, stream or scp.  [auto]"
)
@copy_options
@common_options
@click.pass_obj
def push(invocation: Invocation, /, **options: Any) -> None:
    """Bring the environment ENV from this machine to each SERVER.

    Without SERVER, it goes to the servers in its `push_to` in the inventory. A server gets the
    whole new version or keeps its old one. A version that was changed there is not replaced
    without --overwrite.

    \b
      envsync push myenv server2 server3
      envsync push myenv @gpu --dry-run
      envsync push myenv "gpu[03-08]"
    """
    from envsync.cli.pushing.request import PushOptions, resolve_push

    site = invocation.site()
    request = resolve_push(site, PushOptions(**options))
    for server in request.left_out:
        invocation.terminal.note(f"{server} is the source: left out")
    warnings: Sequence[str] = ()
    if request.source.open_link is None:
        pushed = site.inventory.environment(request.settings.environment)
        warnings = install_warning(pushed, invocation.environ)
    carry_out(invocation, site, request, warnings)


def carry_out(
    invocation: Invocation, site: Site, request: PushRequest, warnings: Sequence[str] = ()
) -> None:
    """Push, report the outcome with `warnings` before the push's own, and raise its error.

    A running daemon is told to look at the servers.
    """
    from envsync.cli.pushing.following import followed

    source = request.source
    invocation.result = result = {
        "environment": request.settings.environment,
        "name_there": request.settings.name_there,
        "source": {"server": source.server, "prefix": source.prefix},
        "dry_run": request.settings.dry_run,
        "servers": [],
    }

    def know(documents: Sequence[ServerDocument]) -> None:
        result["servers"] = documents

    there = site.inventory.environment(request.settings.name_there)
    changed = () if request.settings.dry_run else [to.server for to in request.destinations]
    with looking_again(there, changed, invocation.environ):
        reports = followed(invocation, request, know, warnings)
    _raise_failures(invocation, reports, source.server)


def _raise_failures(invocation: Invocation, reports: Sequence[PushReport], source: str) -> None:
    errors = [report.error for report in reports if report.error is not None]
    if not errors:
        return
    if len(reports) == 1:
        if _is_about_source(errors[0]):
            errors[0].server = source
        raise errors[0]
    common = _common_error(errors)
    if common is not None and len(errors) == len(reports):
        common.server = source
        raise common
    invocation.terminal.errors(errors)
    raise SomeServersFailed(f"{len(errors)} of {len(reports)} servers failed")


def _is_about_source(error: EnvsyncError) -> bool:
    """Return whether the error is about the source and the same for every server.

    That the source shrank is not, because it is found by comparison with one target.
    """
    return isinstance(error, SourceRefused) and not isinstance(error, SourceShrunk)


def _common_error(errors: Sequence[EnvsyncError]) -> EnvsyncError | None:
    """Return the error if it is about the source and all of `errors` are the same, else None."""
    first = errors[0]
    about_source = _is_about_source(first) or isinstance(first, NotFound)
    alike = {(error.code, error.message, error.details) for error in errors}
    return first if about_source and len(alike) == 1 else None
