"""`envsync push`: bring an environment to other servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from envsync.cli.invocation.arguments import environment_argument, servers_argument
from envsync.cli.invocation.completion import server_names
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options, copy_options
from envsync.cli.invocation.running_daemon import install_warning


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
    from envsync.cli.pushing.following import push_and_report
    from envsync.cli.pushing.request import PushOptions, resolve_push

    site = invocation.site()
    request = resolve_push(site, PushOptions(**options))
    for server in request.left_out:
        invocation.terminal.note(f"{server} is the source: left out")
    warnings: Sequence[str] = ()
    if request.source.open_link is None:
        pushed = site.inventory.environment(request.settings.environment)
        warnings = install_warning(pushed, invocation.environ)
    push_and_report(invocation, site, request, warnings)
