"""`envsync demo`: shows the main job on two throwaway servers."""

from __future__ import annotations

from pathlib import Path

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options


@click.command()
@click.option(
    "--env",
    "environment",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Take (a copy of) this conda environment instead of making a small one.",
)
@common_options
@click.pass_obj
def demo(invocation: Invocation, environment: Path | None) -> None:
    """See envsync work: push, verify, change, push again, drift refused, rollback.

    Two small SSH servers on this machine's loopback stand for the servers of a lab. It needs
    no root, no sshd and no rsync, touches no file of yours, and removes what it made.
    """
    from envsync.cli.demo.play import play

    play(invocation, environment)
