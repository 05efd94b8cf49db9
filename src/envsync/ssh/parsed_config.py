"""The ssh configuration as paramiko's parser reads it, for machines without an `ssh` command.

Anything that this parser does not understand is refused where it applies. Skipped silently, it
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
from envsync.ssh.account import how_to_get_ssh, login_name

_LINE = re.compile(r"\s*(\w+)\s*[=\s]\s*(.*?)\s*\Z")
# What `Match` may test here; the others need a shell, the network or a newer ssh.
_MATCHES = frozenset({"all", "final", "host", "originalhost", "user", "localuser"})
_SEVERAL_FILES = ("userknownhostsfile", "globalknownhostsfile")


def parsed_values(
    host: str, insisted: Iterable[str], files: Iterable[Path], home: Path
) -> dict[str, list[str]]:
    """Return the values for a host, as lists by their names in lower case.

    The lines `insisted` come before all files and so take precedence (also for `Match user`). A
    file that is missing, or that this user may not read, is left out. Raises `ConnectionFailed` if
    one cannot be parsed, or needs more than this parser, and for a user without a name.
    """
    if not login_name():
        raise _nameless()  # the parser looks it up, even where the host's `User` is given
    parser = SSHConfig()
    parser.parse(["Host *", *insisted])
    try:
        for file in files:
            if os.access(file, os.R_OK):
                lines = os.fsdecode(file.read_bytes()).split("\n")
                for where, what in _not_understood(lines, file, home):
                    raise needs_ssh(where, what)
                parser.parse(lines)
        options: dict[str, Any] = dict(parser.lookup(host))
        return _values(options)
    except (ConfigParseError, CouldNotCanonicalize, OSError, ValueError) as error:
        raise unreadable(host, str(error)) from error


def literal_hosts(file: Path) -> list[str]:
    """Return the hosts that a configuration names literally; none if it cannot be read."""
    try:
        names: set[str] = SSHConfig.from_path(str(file)).get_hostnames()
    except (ConfigParseError, OSError, UnicodeError):
        return []
    return sorted(name for name in names if not re.search(r"[*?!\[\]]", name))


def _values(options: dict[str, Any]) -> dict[str, list[str]]:
    order = list(options)
    if "proxyjump" in options and "proxycommand" in options:
        # As in OpenSSH, the first of them counts.
        options.pop(max("proxyjump", "proxycommand", key=order.index))
    values = {key: v if isinstance(v, list) else [str(v)] for key, v in options.items()}
    for key in _SEVERAL_FILES:
        if key in values:
            values[key] = shlex.split(values[key][0])
    return values


def _not_understood(lines: Iterable[str], file: Path, home: Path) -> Iterator[tuple[str, str]]:
    """Yield each place (`FILE:LINE`) that needs the real `ssh`, with what is there."""
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
            # All but these are followed by an argument.
            for word in words:
                if word not in _MATCHES:
                    yield where, f"Match {word}"
                if word not in ("all", "final", "canonical"):
                    next(words, None)
        elif key == "canonicalizehostname" and value.lower() not in ("no", "none"):
            yield where, "CanonicalizeHostname"


def _included(value: str, file: Path, home: Path) -> list[str]:
    """Return the files that an `Include` matches; if there are none, nothing is missed."""
    patterns = [
        str(home) + name[1:] if name.startswith("~/") else name for name in shlex.split(value)
    ]
    # Path.glob accepts no absolute pattern.
    return [path for name in patterns for path in glob.glob(str(file.parent / name))]  # noqa: PTH207


def needs_ssh(where: str, what: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"{where} has {what}, which only the ssh command understands, and there is none",
        hint=how_to_get_ssh(),
    )


def _nameless() -> ConnectionFailed:
    return ConnectionFailed(
        f"this user has no name: the uid {os.getuid()} is not in /etc/passwd",
        hint="give it the name that you log in with on the servers: export LOGNAME=NAME",
    )


def unreadable(host: str, reason: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"the ssh configuration for {host} cannot be read",
        hint=f"see what is wrong with it: {shlex.join(['ssh', '-G', host])}",
        details=[line for line in reason.strip().splitlines() if line][-5:],
    )
