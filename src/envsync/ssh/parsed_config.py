"""The ssh configuration as paramiko's parser reads it: for machines without an `ssh` command.

What that parser does not understand is refused where it is met. Skipped in silence, it
could lead to another server, or past a jump host.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from paramiko import SSHConfig
from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

from envsync.errors import ConnectionFailed

_LINE = re.compile(r"\s*(\w+)\s*[=\s]\s*(.*?)\s*\Z")
# What `Match` may ask here; the others need a shell, the network or a newer ssh.
_MATCHES = frozenset({"all", "final", "host", "originalhost", "user", "localuser"})
_SEVERAL_FILES = ("userknownhostsfile", "globalknownhostsfile")


def parsed_values(
    host: str, insisted: Iterable[str], files: Iterable[Path], home: Path
) -> dict[str, list[str]]:
    """The values for a host by their names in lower case, as lists.

    `insisted` are lines that come before all files, so that they count (also for `Match
    user`). Raises `ConnectionFailed` where a file cannot be read, or not by this parser.
    """
    parser = SSHConfig()
    parser.parse(["Host *", *insisted])
    try:
        for file in files:
            if os.access(file, os.R_OK):
                lines = os.fsdecode(file.read_bytes()).split("\n")
                for where, what in _not_understood(lines, file, home):
                    raise needs_ssh(where, what)
                parser.parse(lines)
        found: dict[str, Any] = dict(parser.lookup(host))
        return _values(found)
    except (ConfigParseError, CouldNotCanonicalize, OSError, KeyError, ValueError) as error:
        # KeyError: paramiko asks for the name of a user who has no passwd entry.
        raise unreadable(host, str(error)) from error


def _values(found: dict[str, Any]) -> dict[str, list[str]]:
    order = list(found)
    if "proxyjump" in found and "proxycommand" in found:
        # As OpenSSH: the one that is met first.
        found.pop(max("proxyjump", "proxycommand", key=order.index))
    values = {key: v if isinstance(v, list) else [str(v)] for key, v in found.items()}
    for key in _SEVERAL_FILES:
        if key in values:
            values[key] = shlex.split(values[key][0])
    return values


def _not_understood(lines: Iterable[str], file: Path, home: Path) -> Iterator[tuple[str, str]]:
    """Where (`FILE:LINE`) there is something that needs the real `ssh`, and what."""
    for number, line in enumerate(lines, 1):
        match = _LINE.match(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        key, value = match[1].lower(), match[2]
        where = f"{file}:{number}"
        if key == "include" and _included(value, file, home):
            yield where, "Include"
        elif key == "match":
            words = (word.lstrip("!").lower() for word in shlex.split(value))
            # Each is followed by its argument, but for these two.
            for word in words:
                if word not in _MATCHES:
                    yield where, f"Match {word}"
                if word not in ("all", "final", "canonical"):
                    next(words, None)
        elif key == "canonicalizehostname" and value.lower() not in ("no", "none"):
            yield where, "CanonicalizeHostname"


def _included(value: str, file: Path, home: Path) -> list[str]:
    """The files that an `Include` leads to: none is none that could be missed."""
    patterns = [
        str(home) + name[1:] if name.startswith("~/") else name for name in shlex.split(value)
    ]
    # Not Path.glob: it takes no absolute pattern.
    return [path for name in patterns for path in glob.glob(str(file.parent / name))]  # noqa: PTH207


def needs_ssh(where: str, what: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"{where} has {what}, which only the ssh command understands, and there is none",
        hint="install openssh-client on this machine",
    )


def unreadable(host: str, reason: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"the ssh configuration for {host} cannot be read",
        hint=f"{shlex.join(['ssh', '-G', host])}   shows what is wrong with it",
        details=[line for line in reason.strip().splitlines() if line][-5:],
    )
