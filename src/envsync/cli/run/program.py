"""The command line: `envsync COMMAND`, each command imported only when it is run."""

from __future__ import annotations

import click

from envsync import __version__
from envsync.cli.invocation.lazy_group import LazyCommand, LazyGroup
from envsync.cli.invocation.options import config_option, json_option, verbose_option

_SUMMARIES = {
    "push": "Bring an environment to other servers.",
    "pull": "Bring an environment of another server here.",
    "pack": "Pack an environment into a file.",
    "unpack": "Bring an environment from an archive to servers.",
    "diff": "Show how an environment differs on a server.",
    "verify": "Check every byte on a server against what was published.",
    "list": "Show which environments are on which server.",
    "history": "Show what was published, and by whom.",
    "rollback": "Put the previous version back.",
    "remove": "Remove an environment from servers.",
    "gc": "Free disk space that is no longer needed.",
    "bootstrap": "Give a new server conda and its environments.",
    "doctor": "Find problems on servers, and how to solve them.",
    "daemon": "Push environments after each change.",
    "status": "Show what the daemon keeps in step.",
    "config": "Check or find the inventory file.",
    "demo": "Try envsync on two throwaway servers on this machine.",
}
_FUNCTIONS = {"list": "list_"}  # others have the name of their command
COMMANDS = {
    name: LazyCommand(f"envsync.cli.commands.{name}:{_FUNCTIONS.get(name, name)}", summary)
    for name, summary in _SUMMARIES.items()
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
      envsync push myenv              to the servers in its `push_to` (inventory)
    """
    if context.invoked_subcommand is None:
        if context.obj.json:
            context.fail("missing command")
        click.echo(context.get_help())
