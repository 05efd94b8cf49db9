"""The system's `ssh`, told to go the way that a link of ours went."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from envsync.errors import ConnectionFailed
from envsync.ssh.session import Address, Timeouts
from envsync.ssh.ssh_config import HostSettings, UserConfig


def ssh_argv(
    address: Address, route: Sequence[HostSettings], config: UserConfig, timeouts: Timeouts
) -> list[str]:
    """Without the host. Raises `ConnectionFailed` where there is no `ssh` command."""
    if config.ssh_command is None:
        raise ConnectionFailed(
            "there is no ssh command on this machine",
            hint="install openssh-client, or use a transport that needs none",
            server=address.server,
        )
    argv = _options(route[0], config, timeouts)
    if route[0].proxy_command is None:
        # `jump: none` in the inventory goes past a ProxyJump in the configuration.
        argv += ["-o", "ProxyJump=none"]
    for before, hop in pairwise(route):
        # Not -J: the ssh that it starts takes neither strict checking nor BatchMode nor
        # known_hosts files from this one, and would ask at the terminal.
        inner = shlex.join([*argv, "-W", "\0", "--", before.alias])
        inner = inner.replace("%", "%%").replace(shlex.quote("\0"), "[%h]:%p")
        argv = [*_options(hop, config, timeouts), "-o", f"ProxyCommand={inner}"]
    return argv


def _options(hop: HostSettings, config: UserConfig, timeouts: Timeouts) -> list[str]:
    """What is said to every hop: nothing is asked, nothing is learned, every wait ends."""
    keepalive = max(1, round(timeouts.keepalive_seconds))
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "ConnectTimeout": str(max(1, round(timeouts.connect_seconds))),
        "ServerAliveInterval": str(keepalive),
        "ServerAliveCountMax": str(max(1, round(timeouts.silence_seconds / keepalive))),
        "HostName": hop.hostname.replace("%", "%%"),
    }
    if hop.user_known_hosts:
        options["UserKnownHostsFile"] = _files(hop.user_known_hosts)
    if hop.global_known_hosts:
        options["GlobalKnownHostsFile"] = _files(hop.global_known_hosts)
    argv = [str(config.ssh_command), "-T", *config.file_arguments()]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    argv += ["-l", hop.user, "-p", str(hop.port)]
    for file in hop.identity_files:
        if os.access(file, os.R_OK):
            argv += ["-o", f"IdentityFile={_quoted(file)}"]
    return argv


def _files(files: Sequence[Path]) -> str:
    return " ".join(_quoted(file) for file in files)


def _quoted(file: Path) -> str:
    """As ssh_config reads it: one word, percent signs doubled."""
    text = str(file).replace("%", "%%")
    return f'"{text}"' if " " in text else text
