"""Commands, for hints, with which a person reaches the server of a link."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from envsync.ssh.session import Reached


def ssh_command(reached: Reached, *options: str) -> str:
    """Return the command for a shell there; a command to run instead is appended as one word."""
    jump_options = [] if reached.jump is None else ["-J", reached.jump]
    return _command(reached, ["ssh", *options], jump_options)


def copy_command(reached: Reached) -> str:
    """Return the command that adds a public key to the account there."""
    jump_options = [] if reached.jump is None else ["-o", f"ProxyJump={reached.jump}"]
    return _command(reached, ["ssh-copy-id"], jump_options)


def _command(reached: Reached, program: Sequence[str], jump_options: Sequence[str]) -> str:
    key = [] if reached.given_identity is None else ["-i", str(reached.given_identity)]
    port = [] if reached.port == 22 else ["-p", str(reached.port)]
    return shlex.join([*program, *key, *jump_options, *port, f"{reached.user}@{reached.alias}"])
