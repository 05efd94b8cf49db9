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
    help="Use a copy of this conda environment instead of a small new one.",
)
@common_options
@click.pass_obj
def demo(invocation: Invocation, environment: Path | None) -> None:
    """Try envsync on two throwaway servers on this machine.

    It shows a push, a verification, a change and a push of it, refused drift, and a rollback.

    The servers are two small SSH servers on the loopback interface. The demo needs no root, no
    sshd and no rsync, touches no file of yours, and removes what it made.
    """
    from envsync.cli.demo.play import play

    play(invocation, environment)
