"""The command line: `envsync COMMAND`, each command imported only when it is run."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from envsync import __version__
from envsync.cli.invocation.options import config_option, json_option, verbose_option
from envsync.inventory.names import suggestion


class _Entry(NamedTuple):
    """Where a command is, and its line in `envsync --help`."""

    where: str
    summary: str


COMMANDS = {
    "push": _Entry("envsync.cli.commands.push:push", "Bring an environment to other servers."),
    "pull": _Entry(
        "envsync.cli.commands.pull:pull", "Bring an environment of another server here."
    ),
    "pack": _Entry("envsync.cli.commands.pack:pack", "Pack an environment into a file."),
    "unpack": _Entry(
        "envsync.cli.commands.unpack:unpack", "Bring an archive's environment to servers."
    ),
    "diff": _Entry(
        "envsync.cli.commands.diff:diff", "Show how an environment differs on a server."
    ),
    "verify": _Entry(
        "envsync.cli.commands.verify:verify",
        "Check every byte on a server against what was published.",
    ),
    "list": _Entry(
        "envsync.cli.commands.list:list_", "Show which environments are on which server."
    ),
    "history": _Entry(
        "envsync.cli.commands.history:history", "Show what was published, and by whom."
    ),
    "rollback": _Entry("envsync.cli.commands.rollback:rollback", "Put the previous version back."),
    "remove": _Entry(
        "envsync.cli.commands.remove:remove", "Take an environment away from servers."
    ),
    "gc": _Entry("envsync.cli.commands.gc:gc", "Free disk that no version needs any more."),
    "bootstrap": _Entry(
        "envsync.cli.commands.bootstrap:bootstrap", "Give a new server conda and its environments."
    ),
    "doctor": _Entry(
        "envsync.cli.commands.doctor:doctor", "Find what is wrong with servers, and what mends it."
    ),
    "daemon": _Entry("envsync.cli.commands.daemon:daemon", "Keep environments in step by itself."),
    "status": _Entry("envsync.cli.commands.status:status", "Show what the daemon keeps in step."),
    "config": _Entry("envsync.cli.commands.config:config", "Check or find the inventory file."),
    "demo": _Entry(
        "envsync.cli.commands.demo:demo",
        "See envsync work: push, verify, change, push again, drift refused, rollback.",
    ),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            ctx.fail(f"no such command {cmd_name!r}{suggestion(cmd_name, COMMANDS)}")
        module, _, name = entry.where.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="`envsync COMMAND --help` says more about each.",
)
@config_option()
@verbose_option()
@json_option(hidden=True)
@click.version_option(__version__, message="envsync %(version)s", help="Show the version.")
@click.pass_context
def program(context: click.Context) -> None:
    """Keep conda environments the same on all servers of a lab.

    \b
      envsync push myenv server2      the environment myenv, from here to server2
      envsync push myenv              to the servers that the inventory names for it
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
