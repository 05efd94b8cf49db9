"""The command line: `envsync COMMAND`, each command imported only when it is run."""

from __future__ import annotations

import click

from envsync import __version__
from envsync.cli.invocation.lazy_group import LazyCommand, LazyGroup
from envsync.cli.invocation.options import config_option, json_option, verbose_option

COMMANDS = {
    "push": LazyCommand("envsync.cli.commands.push:push", "Bring an environment to other servers."),
    "pull": LazyCommand(
        "envsync.cli.commands.pull:pull", "Bring an environment of another server here."
    ),
    "pack": LazyCommand("envsync.cli.commands.pack:pack", "Pack an environment into a file."),
    "unpack": LazyCommand(
        "envsync.cli.commands.unpack:unpack", "Bring an environment from an archive to servers."
    ),
    "diff": LazyCommand(
        "envsync.cli.commands.diff:diff", "Show how an environment differs on a server."
    ),
    "verify": LazyCommand(
        "envsync.cli.commands.verify:verify",
        "Check every byte on a server against what was published.",
    ),
    "list": LazyCommand(
        "envsync.cli.commands.list:list_", "Show which environments are on which server."
    ),
    "history": LazyCommand(
        "envsync.cli.commands.history:history", "Show what was published, and by whom."
    ),
    "rollback": LazyCommand(
        "envsync.cli.commands.rollback:rollback", "Put the previous version back."
    ),
    "remove": LazyCommand(
        "envsync.cli.commands.remove:remove", "Remove an environment from servers."
    ),
    "gc": LazyCommand("envsync.cli.commands.gc:gc", "Free disk space that is no longer needed."),
    "bootstrap": LazyCommand(
        "envsync.cli.commands.bootstrap:bootstrap", "Give a new server conda and its environments."
    ),
    "doctor": LazyCommand(
        "envsync.cli.commands.doctor:doctor", "Find problems on servers, and how to solve them."
    ),
    "daemon": LazyCommand(
        "envsync.cli.commands.daemon:daemon", "Push environments after each change."
    ),
    "status": LazyCommand(
        "envsync.cli.commands.status:status", "Show what the daemon keeps in step."
    ),
    "config": LazyCommand(
        "envsync.cli.commands.config:config", "Check or find the inventory file."
    ),
    "demo": LazyCommand(
        "envsync.cli.commands.demo:demo",
        "Try envsync on two throwaway servers on this machine.",
    ),
}


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="See `envsync COMMAND --help` for each command.",
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
      envsync push myenv              to the servers in its `push_to` in the inventory
    """
    if context.invoked_subcommand is None:
        if context.obj.json:
            context.fail("missing command")
        click.echo(context.get_help())
