"""envsync's own commands as hints show them, quoted for a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

_COMMANDS = (
    "push", "pull", "pack", "unpack", "diff", "verify", "list", "history", "rollback", "remove",
    "gc", "bootstrap", "doctor", "daemon", "status", "config",
)  # fmt: skip
_TO_COPY = re.compile(
    rf"(?:^|(?<=`)|(?<=[→>:] )|(?<=sudo ))envsync (?=(?:{'|'.join(_COMMANDS)})\b)"
)

_OF_SEVERAL_SERVERS = (
    "push", "unpack", "verify", "list", "history", "remove", "gc", "doctor",
)  # fmt: skip
_FOR_SEVERAL = re.compile(
    rf"(?:^|(?<=`)|(?<=[→>:] ))envsync (?:{'|'.join(_OF_SEVERAL_SERVERS)})\b[^`]*"
)

_IS_COPIED = re.compile(r"[`:/=]| -|(?:^|→ )(?:envsync|sudo) ")
"""Signs of a command, an option or a path."""

A_SERVER = "\0"
"""Stands for a server's name in a text for `for_servers`; in no text for people."""

_ADVICE = ("hint", "warnings", "complaints.command")
"""The keys of a JSON document whose texts say what to do; a complaint is one of `doctor`."""


def command_line(*words: str) -> str:
    """Return an `envsync` command line quoted for a shell, such as `envsync gc 'gpu[03-08]'`."""
    return shlex.join(("envsync", *words))


def published_diff(environment: str, server: str) -> str:
    """Return the command that compares an environment on `server` with what was published there."""
    return command_line("diff", environment, server, "--published")


def what_there_is(server: str) -> str:
    """Return a hint with the command that lists what is on `server`."""
    return f"`{command_line('list', server)}` shows its environments"


def for_servers(text: str, servers: Sequence[str]) -> str:
    """Return a hint for all of `servers`; "" if none of its commands takes more than one.

    `A_SERVER` stands in it for the name of each. Beside a command for all of them there may be one
    for a single server: `SERVER` is left in that.
    """
    names = shlex.join(servers)
    told = _FOR_SEVERAL.sub(lambda command: command[0].replace(A_SERVER, names), text)
    return "" if told == text and A_SERVER in text else told.replace(A_SERVER, "SERVER")


def is_copied(hint: str) -> bool:
    """Return whether a hint may have a command or a path in it, which must not be folded."""
    return _IS_COPIED.search(hint) is not None


def with_config(text: str, config: str) -> str:
    """Return `text` with `--config` in every command that it shows; as it is if `config` is "".

    A command begins the text, or follows a backtick, an arrow, a colon or `sudo`. Elsewhere the
    same words are prose, or come from another program.
    """
    if not config:
        return text
    return _TO_COPY.sub(lambda _: f"envsync --config {shlex.quote(config)} ", text)


def json_with_config(value: Any, config: str, key: str = "") -> Any:
    """Return a JSON-ready value with `--config` in the commands of its advice, and only there.

    Any other text may come from elsewhere, such as the command line of somebody's process.
    """
    if isinstance(value, str):
        return with_config(value, config) if key in _ADVICE else value
    if isinstance(value, (list, tuple)):
        return [json_with_config(part, config, key) for part in value]
    if isinstance(value, dict):
        within = f"{key}." if key == "complaints" else ""
        return {name: json_with_config(part, config, within + name) for name, part in value.items()}
    return value
