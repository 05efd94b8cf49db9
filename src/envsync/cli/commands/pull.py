"""`envsync pull`: bring an environment of another server to this machine."""

from __future__ import annotations

from typing import Any

import click

from envsync.cli.invocation.arguments import environment_argument, server_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options, pull_options


@click.command()
@environment_argument
@server_argument("from_server")
@pull_options
@common_options
@click.pass_obj
def pull(invocation: Invocation, /, **options: Any) -> None:
    """Bring the environment ENV from SERVER to this machine: a push in the other direction.

    This machine gets the whole new version or keeps its old one. A version that was changed
    here is not replaced without --overwrite.
    """
    from envsync.cli.pushing.following import push_and_report
    from envsync.cli.pushing.request import PushOptions, resolve_pull

    site = invocation.site()
    push_and_report(invocation, site, resolve_pull(site, PushOptions(**options)))
