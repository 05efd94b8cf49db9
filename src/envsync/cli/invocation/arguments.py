"""Arguments that several commands share, and what the shell offers for them at TAB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from envsync.cli.invocation.completion import (
    environment_names,
    server_names,
    servers_and_groups,
)

F = TypeVar("F", bound=Callable[..., Any])


environment_argument = click.argument(
    "environment", metavar="ENV", shell_complete=environment_names
)
environments_argument = click.argument(
    "environments", nargs=-1, metavar="[ENV]...", shell_complete=environment_names
)


def server_argument(name: str = "server") -> Callable[[F], F]:
    """Add the argument SERVER, as `name`."""
    return click.argument(name, metavar="SERVER", shell_complete=server_names)


def servers_argument(*, required: bool = False) -> Callable[[F], F]:
    """Add the argument for any number of servers and groups, as `servers`."""
    token = "SERVER|@GROUP|RANGE"
    return click.argument(
        "servers",
        nargs=-1,
        required=required,
        metavar=f"{token}..." if required else f"[{token}]...",
        shell_complete=servers_and_groups,
    )
