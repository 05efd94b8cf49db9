"""What a shell offers at TAB for environments and servers.

Nothing here contacts a server or reports a problem: names that cannot be looked up are not offered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from envsync.cli.invocation.invocation import Invocation
from envsync.errors import EnvsyncError
from envsync.tree.environment_name import is_environment_name

if TYPE_CHECKING:
    import click


def environment_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the environments in the inventory and on this machine that begin like this."""
    names = set[str]()
    with contextlib.suppress(EnvsyncError, OSError):
        site = Invocation.of(context).site()
        names.update(environment.name for environment in site.inventory.environments)
        envs = Path(site.own_prefix, "envs")
        names_here = (path.parent.name for path in envs.glob("*/conda-meta"))
        names.update(filter(is_environment_name, names_here))
    return _beginning(incomplete, names)


def server_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the servers in the inventory that begin like this.

    Without an inventory, return the hosts of the user's ssh configuration.
    """
    names: Iterable[str] = ()
    with contextlib.suppress(EnvsyncError, OSError):
        invocation = Invocation.of(context)
        inventory = invocation.inventory()
        names = [server.name for server in inventory.servers]
        if inventory.path is None:
            from envsync.ssh.ssh_config import UserConfig  # imports paramiko

            names = UserConfig(invocation.environ).host_names()
    return _beginning(incomplete, names)


def servers_and_groups(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return what `server_names` does, and groups such as `@gpu`."""
    names = list[str]()
    with contextlib.suppress(EnvsyncError, OSError):
        names += [f"@{group}" for group in Invocation.of(context).inventory().groups]
    given = context.params.get(parameter.name or "") or ("",)
    if given[-1] == "@":  # bash tells of `@g` as two words, but replaces both
        return _beginning(f"@{incomplete}", names)
    return [*server_names(context, parameter, incomplete), *_beginning(incomplete, names)]


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
