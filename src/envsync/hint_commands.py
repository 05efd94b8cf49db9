"""envsync's own commands as hints show them; they are quoted here and nowhere else."""

from __future__ import annotations

import shlex


def command_line(*words: str) -> str:
    """Return an `envsync` command line quoted for a shell, such as `envsync gc 'gpu[03-08]'`."""
    return shlex.join(("envsync", *words))


def published_diff(environment: str, server: str) -> str:
    """Return the command that compares an environment on `server` with what was published there."""
    return command_line("diff", environment, server, "--published")


def what_there_is(server: str) -> str:
    """Return a hint that tells how to list what is on `server`."""
    return f"`{command_line('list', server)}` shows what there is"
