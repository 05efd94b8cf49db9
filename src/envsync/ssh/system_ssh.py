"""Command lines of the system's `ssh` that take the same route as one of our links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from envsync.errors import ConnectionFailed
from envsync.ssh import identities
from envsync.ssh.account import how_to_get_ssh
from envsync.ssh.route import Hop, ResolvedRoute
from envsync.ssh.session import Timeouts
from envsync.ssh.ssh_config import UserConfig

# What ends a word in ssh_config, or starts a quote, an escape or a comment.
_SPECIAL = re.compile(r"[\s\"'\\#]")


def ssh_argv(
    route: ResolvedRoute,
    timeouts: Timeouts,
    logs: Path | None = None,
    *,
    forwards_agent: bool = False,
) -> list[str]:
    """Return the command line without the host.

    With `logs`, a directory, each hop writes its log to a file there: see `log_name`. With
    `forwards_agent`, the agent that the configuration forwards to the server is forwarded there,
    and to no other hop. Raises `ConnectionFailed` if there is no `ssh` command.
    """
    if route.config.ssh_command is None:
        raise ConnectionFailed(
            "there is no usable ssh command on this machine",
            hint=f"{how_to_get_ssh()}; or use a transport that needs none",
            server=route.server,
        )
    lent = route.last.settings.forward_agent if forwards_agent else None
    hops = [
        [
            *_options(hop, route.config, timeouts, lent if hop is route.last else None),
            *_log(logs, number),
        ]
        for number, hop in enumerate(route.hops)
    ]
    argv = hops[0]
    if route.settings[0].proxy_command is None:
        # `jump: none` in the inventory also overrides a ProxyJump in the configuration.
        argv += ["-o", "ProxyJump=none"]
    for before, options in zip(route.settings, hops[1:], strict=False):
        # -J will not do: the ssh that it starts inherits neither strict checking nor BatchMode nor
        # known_hosts files from this one, and would prompt at the terminal.
        inner = shlex.join([*argv, "-W", "\0", "--", before.alias])
        # Its quotes stay: csh and zsh take the brackets for a pattern.
        inner = inner.replace("%", "%%").replace("\0", "[%h]:%p")
        argv = [*options, "-o", f"ProxyCommand={inner}", "-o", "ProxyUseFdpass=no"]
    return argv


def sharing_argv(config: UserConfig, control_path: Path) -> list[str]:
    """Return the command line, without the host, that uses a running master or fails at once."""
    path = str(control_path).replace("%", "%%")
    argv = [str(config.ssh_command), "-T", "-F", "none", "-S", path]
    for option in (
        "ControlMaster=no",
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        # If the master is gone, ssh would open a connection of its own.
        "ProxyCommand=false",
    ):
        argv += ["-o", option]
    return argv


def log_name(number: int) -> str:
    """Return the name of the file to which ssh logs that hop of the route."""
    return f"hop{number}.log"


def _log(logs: Path | None, number: int) -> list[str]:
    return [] if logs is None else ["-v", "-E", str(logs / log_name(number))]


def _options(
    hop: Hop, config: UserConfig, timeouts: Timeouts, forward_agent: str | None
) -> list[str]:
    """Return the options for one hop: no prompts, no learning of keys, a limit on every wait."""
    settings = hop.settings
    keepalive = max(1, round(timeouts.keepalive_seconds))
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "NoHostAuthenticationForLocalhost": "no",
        "UpdateHostKeys": "no",
        # The user's own master may be used, but none is left behind.
        "ControlMaster": "no",
        "ControlPath": _quoted(hop.users_socket or Path("none")),
        "ClearAllForwardings": "yes",
        "ForwardAgent": _quoted(Path(forward_agent or "no")),
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "ConnectTimeout": str(max(1, round(timeouts.connect_seconds))),
        "ServerAliveInterval": str(keepalive),
        "ServerAliveCountMax": str(max(1, round(timeouts.silence_seconds / keepalive))),
    }
    if settings.user_known_hosts:
        options["UserKnownHostsFile"] = _files(settings.user_known_hosts)
    if settings.global_known_hosts:
        options["GlobalKnownHostsFile"] = _files(settings.global_known_hosts)
    if settings.remote_command is not None:
        options["RemoteCommand"] = "none"
    argv = [str(config.ssh_command), "-T", *config.file_arguments()]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    # As in `UserConfig.lookup`: with another user, or a HostName, other `Match` blocks would apply.
    if settings.given_user is not None:
        argv += ["-l", settings.given_user]
    if settings.given_port is not None:
        argv += ["-p", str(settings.given_port)]
    for file in settings.identity_files:
        if identities.is_readable(file):
            argv += ["-o", f"IdentityFile={_quoted(file)}"]
    return argv


def _files(files: Sequence[Path]) -> str:
    return " ".join(_quoted(file) for file in files)


def _quoted(file: Path) -> str:
    """Return a path as one word of ssh_config, with percent signs doubled."""
    text = str(file).replace("%", "%%")
    if not _SPECIAL.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
