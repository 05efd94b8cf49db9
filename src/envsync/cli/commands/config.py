"""`envsync config`: check the inventory, or say where it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.lazy_group import LazyCommand, LazyGroup
from envsync.cli.invocation.options import common_options, json_option
from envsync.cli.output.wording import count
from envsync.errors import NotFound
from envsync.inventory import Inventory, find, load, misnamed, read

_PLACES = (
    "--config FILE",
    "$ENVSYNC_CONFIG",
    "./envsync.yaml",
    "$XDG_CONFIG_HOME/envsync/config.yaml, else ~/.config/envsync/config.yaml",
    "/etc/envsync/config.yaml",
)


COMMANDS = {
    "check": LazyCommand(
        "envsync.cli.commands.config:check",
        "Read the inventory and show every error with its line.",
    ),
    "path": LazyCommand("envsync.cli.commands.config:path", "Show which inventory is used."),
}


@click.group(cls=LazyGroup, entries=COMMANDS, no_args_is_help=False)
@json_option(hidden=True)
def config() -> None:
    """Check the inventory file, or show which one is used.

    Without one, a server is any host that `ssh` knows, and the prefix is that of the active
    conda.
    """


@click.command()
@common_options
@click.pass_obj
def check(invocation: Invocation) -> None:
    """Read the inventory and show every error with its line."""
    file = find(invocation.config, invocation.environ)
    if file is None:
        raise _no_file(invocation)
    inventory = load(file)
    warnings = list(_not_kept_in_step(inventory))
    invocation.result = {
        "path": str(file),
        "servers": [server.name for server in inventory.servers],
        "environments": [environment.name for environment in inventory.environments],
        "warnings": warnings,
    }
    servers = count(len(inventory.servers), "server")
    environments = count(len(inventory.environments), "environment")
    invocation.terminal.say(f"{file}: valid, {servers}, {environments}")
    for warning in warnings:
        invocation.terminal.warning(warning)


def _not_kept_in_step(inventory: Inventory) -> Iterator[str]:
    """Yield a warning for each environment that is watched, but that no daemon will push."""
    for environment in inventory.environments:
        name = environment.name
        if environment.watch and not environment.push_to:
            yield f"{name}: watch is true, but push_to is empty: the daemon pushes it to no server"
        if environment.watch and environment.method == "pack":
            yield f"{name}: watch is true, but the method is pack: the daemon does not pack"


@click.command()
@common_options
@click.pass_obj
def path(invocation: Invocation) -> None:
    """Show which inventory is used."""
    file = find(invocation.config, invocation.environ)
    if file is None:
        raise _no_file(invocation)
    read(file)  # raises if there is no such file
    invocation.result = {"path": str(file)}
    invocation.terminal.say(str(file))


def _no_file(invocation: Invocation) -> NotFound:
    for file in misnamed(invocation.environ):
        return NotFound(
            f"there is no inventory, but {file}, which is not read",
            hint=f"its name has to end with .yaml: "
            f"{shlex.join(['mv', str(file), str(file.with_suffix('.yaml'))])}",
        )
    return NotFound(
        "there is no inventory",
        details=["looked for, in this order:", *(f"  {place}" for place in _PLACES)],
        hint="none is needed for `envsync push ENV HOST`; config.example.yaml shows one",
    )
