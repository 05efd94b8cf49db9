"""`envsync daemon`: keep environments in step by itself."""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.errors import InventoryError
from envsync.inventory.names import suggestion

if TYPE_CHECKING:
    from envsync.daemon.orders import Order


class _Entry(NamedTuple):
    """Where a subcommand is, and its line in the help; none for one that is not for people."""

    where: str
    summary: str = ""


COMMANDS = {
    "install": _Entry("envsync.cli.daemon.install:install", "Let systemd run it."),
    "pause": _Entry("envsync.cli.daemon.control:pause", "Push nothing until `resume`."),
    "resume": _Entry("envsync.cli.daemon.control:resume", "Go on after `pause`."),
    "sync": _Entry("envsync.cli.daemon.control:sync", "Push now, without waiting for anything."),
    "work": _Entry("envsync.cli.daemon.work:work"),
    "try-servers": _Entry("envsync.cli.daemon.service_trial:try_servers"),
}


class _Group(click.Group):
    """Imports the subcommand that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for name, entry in COMMANDS.items() if entry.summary]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            near = suggestion(cmd_name, self.list_commands(ctx))
            ctx.fail(f"no such command {cmd_name!r}{near}")
        module, _, name = entry.where.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


@click.group(
    cls=_Group, invoke_without_command=True, short_help="Keep environments in step by itself."
)
@click.option("--as", "as_name", metavar="NAME", help="This machine's name in the inventory.")
@common_options
@click.pass_context
def daemon(context: click.Context, as_name: str | None) -> None:
    """Watch the environments that this machine is the source of, and push each to its servers
    once an install has come to its end.

    It runs until Ctrl-C or SIGTERM. Which environments: those with `watch: true` in the
    inventory. It overwrites nothing that somebody changed on a server, and undoes no rollback:
    `envsync status` says what it left alone, and why.
    """
    if context.invoked_subcommand is None:
        _run(context.obj, as_name)


def _run(invocation: Invocation, as_name: str | None) -> None:
    from envsync.cli.output.terminal import escaped
    from envsync.daemon.log import Log
    from envsync.daemon.notify import Notifier
    from envsync.daemon.service import Service, Setting
    from envsync.inventory import find

    file = find(invocation.config, invocation.environ)
    if file is None:
        raise InventoryError(
            "the daemon needs an inventory, and there is none",
            hint="write one (see config.example.yaml); `envsync config path` says where",
        )

    def say(line: str) -> None:
        if invocation.json:
            return
        sys.stderr.write(f"{escaped(line)}\n")
        sys.stderr.flush()

    environ, hostname = dict(invocation.environ), socket.gethostname()
    setting = Setting(
        file=file.absolute(),
        hostname=hostname,
        own_name=lambda inventory: inventory.own_name(as_name, environ, hostname),
        argv=_argv,
        environ=environ,
    )
    Service(setting, Log(say, environ), Notifier.from_environ(environ)).run()


def _argv(order: Order, inventory: Path, own: str) -> list[str]:
    """The command line of the child that carries out an order."""
    argv = [sys.executable, "-m", "envsync", "--config", str(inventory), "daemon", "work"]
    argv += ["--as", own]
    for environment in order.environments:
        argv += ["--environment", environment]
    for glance in order.glances:
        argv += ["--glance", *glance]
    argv += ["--await-word"] if order.awaits_word else []
    argv += ["--make-spare"] if order.makes_spare else []
    return [*argv, *order.servers]
