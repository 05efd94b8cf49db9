"""`envsync daemon`: keep environments in step by itself."""

from __future__ import annotations

import contextlib
import socket
import sys

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.lazy_group import LazyCommand, LazyGroup
from envsync.cli.invocation.options import common_options
from envsync.hint_commands import with_config

COMMANDS = {
    "install": LazyCommand("envsync.cli.daemon.install:install", "Run it as a systemd service."),
    "pause": LazyCommand("envsync.cli.daemon.control:pause", "Stop pushing until `resume`."),
    "resume": LazyCommand("envsync.cli.daemon.control:resume", "Continue after `pause`."),
    "sync": LazyCommand("envsync.cli.daemon.control:sync", "Push now, without waiting."),
    "work": LazyCommand("envsync.cli.daemon.work:work"),
    "try-servers": LazyCommand("envsync.cli.daemon.service_trial:try_servers"),
}


@click.group(cls=LazyGroup, entries=COMMANDS, invoke_without_command=True)
@click.option("--as", "as_name", metavar="NAME", help="This machine's name in the inventory.")
@common_options
@click.pass_context
def daemon(context: click.Context, as_name: str | None) -> None:
    """Watch the environments that this machine is the source of, and push each to its servers
    after an install has finished.

    It runs until Ctrl-C or SIGTERM, and watches the environments with `watch: true` in the
    inventory. It does not overwrite what was changed on a server, and does not undo a rollback:
    `envsync status` shows what it did not push, and why.
    """
    if context.invoked_subcommand is None:
        _run(context.obj, as_name)


def _run(invocation: Invocation, as_name: str | None) -> None:
    from envsync.daemon.inventory_file import required_file
    from envsync.daemon.log import Log
    from envsync.daemon.main_loop import run_daemon
    from envsync.daemon.settings import DaemonSettings
    from envsync.daemon.systemd.notify import Notifier
    from envsync.texts.redaction import escaped

    def say(line: str) -> None:
        if invocation.json:
            return
        with contextlib.suppress(OSError):  # the disk of a log may be full, its reader gone
            sys.stderr.write(f"{escaped(with_config(line, invocation.given_config))}\n")
            sys.stderr.flush()

    environ = dict(invocation.environ)
    settings = DaemonSettings(
        file=required_file(invocation.config, environ),
        as_name=as_name,
        hostname=socket.gethostname(),
        environ=environ,
    )
    run_daemon(settings, Log(say, environ), Notifier.from_environ(environ))
