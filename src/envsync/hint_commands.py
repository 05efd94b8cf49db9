"""envsync's own commands as hints show them, quoted for a shell."""

from __future__ import annotations

import re
import shlex

_READING_INVENTORY = (
    "push", "pull", "pack", "unpack", "diff", "verify", "list", "history", "rollback", "remove",
    "gc", "bootstrap", "doctor",
)  # fmt: skip
_COMMAND = rf"envsync (?=(?:{'|'.join(_READING_INVENTORY)})\b)"
_ANYWHERE = re.compile(rf"\b{_COMMAND}")
_QUOTED = re.compile(rf"(?:(?<=`)|(?<=→ )){_COMMAND}")


def command_line(*words: str) -> str:
    """Return an `envsync` command line quoted for a shell, such as `envsync gc 'gpu[03-08]'`."""
    return shlex.join(("envsync", *words))


def published_diff(environment: str, server: str) -> str:
    """Return the command that compares an environment on `server` with what was published there."""
    return command_line("diff", environment, server, "--published")


def what_there_is(server: str) -> str:
    """Return a hint with the command that lists what is on `server`."""
    return f"`{command_line('list', server)}` shows its environments"


def with_config(hint: str, config: str) -> str:
    """Return `hint` with `--config` in every command of it that reads an inventory."""
    return _ANYWHERE.sub(lambda _: f"envsync --config {shlex.quote(config)} ", hint)


def with_config_where_quoted(line: str, config: str) -> str:
    """Return `line` with `--config` in those of its commands that follow a backtick or an arrow."""
    return _QUOTED.sub(lambda _: f"envsync --config {shlex.quote(config)} ", line)
