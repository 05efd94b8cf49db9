"""Command lines of the system's `ssh` that go the same route as a link of ours."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from envsync.errors import ConnectionFailed
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.session import Address, Timeouts
from envsync.ssh.ssh_config import UserConfig

# What ends a word in ssh_config, or begins something that does.
_SPECIAL = re.compile(r"[\s\"'\\#]")


def ssh_argv(
    address: Address,
    route: Sequence[HostSettings],
    config: UserConfig,
    timeouts: Timeouts,
    logs: Path | None = None,
    *,
    forwards_agent: bool = False,
) -> list[str]:
    """Without the host. Raises `ConnectionFailed` where there is no `ssh` command.

    With `logs`, each hop writes what it does into a file there: see `log_name`. `forwards_agent`:
    the server may be lent the agent that the configuration forwards to it, no other hop is.
    """
    if config.ssh_command is None:
        raise ConnectionFailed(
            "there is no ssh command on this machine",
            hint="install openssh-client, or use a transport that needs none",
            server=address.server,
        )
    lent = route[-1].forward_agent if forwards_agent else None
    last = len(route) - 1
    hops = [
        [*_options(hop, config, timeouts, lent if number == last else None), *_log(logs, number)]
        for number, hop in enumerate(route)
    ]
    argv = hops[0]
    if route[0].proxy_command is None:
        # `jump: none` in the inventory goes past a ProxyJump in the configuration.
        argv += ["-o", "ProxyJump=none"]
    for before, options in zip(route, hops[1:], strict=False):
        # Not -J: the ssh that it starts takes neither strict checking nor BatchMode nor
        # known_hosts files from this one, and would ask at the terminal.
        inner = shlex.join([*argv, "-W", "\0", "--", before.alias])
        inner = inner.replace("%", "%%").replace(shlex.quote("\0"), "[%h]:%p")
        argv = [*options, "-o", f"ProxyCommand={inner}", "-o", "ProxyUseFdpass=no"]
    return argv


def sharing_argv(config: UserConfig, control_path: Path) -> list[str]:
    """Without the host: goes over the connection of a running master, or fails at once."""
    path = str(control_path).replace("%", "%%")
    argv = [str(config.ssh_command), "-T", "-F", "none", "-S", path]
    for option in (
        "ControlMaster=no",
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        # Where the master is gone, ssh would make a connection of its own.
        "ProxyCommand=false",
    ):
        argv += ["-o", option]
    return argv


def log_name(number: int) -> str:
    """The file with what the ssh to that hop of the route did."""
    return f"hop{number}.log"


def _log(logs: Path | None, number: int) -> list[str]:
    return [] if logs is None else ["-v", "-E", str(logs / log_name(number))]


def _options(
    hop: HostSettings, config: UserConfig, timeouts: Timeouts, forward_agent: str | None
) -> list[str]:
    """What is said to every hop: nothing is asked, nothing is learned, every wait ends."""
    keepalive = max(1, round(timeouts.keepalive_seconds))
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "NoHostAuthenticationForLocalhost": "no",
        "UpdateHostKeys": "no",
        # A master that somebody else runs may be used, but none is left behind.
        "ControlMaster": "no",
        "ClearAllForwardings": "yes",
        "ForwardAgent": _quoted(Path(forward_agent or "no")),
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "ConnectTimeout": str(max(1, round(timeouts.connect_seconds))),
        "ServerAliveInterval": str(keepalive),
        "ServerAliveCountMax": str(max(1, round(timeouts.silence_seconds / keepalive))),
        "HostName": hop.hostname.replace("%", "%%"),
    }
    if hop.user_known_hosts:
        options["UserKnownHostsFile"] = _files(hop.user_known_hosts)
    if hop.global_known_hosts:
        options["GlobalKnownHostsFile"] = _files(hop.global_known_hosts)
    if hop.remote_command is not None:
        options["RemoteCommand"] = "none"
    argv = [str(config.ssh_command), "-T", *config.file_arguments()]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    argv += ["-l", hop.user, "-p", str(hop.port)]
    for file in hop.identity_files:
        # Of a key in an agent, only the public half may be here.
        if os.access(file, os.R_OK) or os.access(f"{file}.pub", os.R_OK):
            argv += ["-o", f"IdentityFile={_quoted(file)}"]
    return argv


def _files(files: Sequence[Path]) -> str:
    return " ".join(_quoted(file) for file in files)


def _quoted(file: Path) -> str:
    """As ssh_config reads it: one word, percent signs doubled."""
    text = str(file).replace("%", "%%")
    if not _SPECIAL.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
