"""envsync's own commands, as a person is told to type them: quoted once, and here."""

from __future__ import annotations

import shlex


def command_line(*words: str) -> str:
    """`envsync` with these words, for a shell: `envsync gc 'gpu[03-08]'`."""
    return shlex.join(("envsync", *words))


def published_diff(environment: str, server: str) -> str:
    """What shows how an environment there differs from what was published."""
    return command_line("diff", environment, server, "--published")


def what_there_is(server: str) -> str:
    """A hint: how to find out what stands on a server."""
    return f"`{command_line('list', server)}` shows what there is"
