"""The hops from here to a server, each with its settings."""

from __future__ import annotations

import re

from envsync.errors import AuthenticationRefused, ConnectionFailed, UsageError
from envsync.ssh import identities
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.session import Address
from envsync.ssh.ssh_config import UserConfig

# More hops than any real route; stops at a configuration that jumps in a circle.
_MOST_HOPS = 8

# What a host or a user may contain on a command line or in a configuration: no leading dash (an
# option), no blank, quote, control or shell character.
_HOST = re.compile(r"(?!-)[\w.:%\[\]-]+\Z")
_USER = re.compile(r"(?!-)[\w.@\\+$-]+\Z")


def find_route(address: Address, config: UserConfig) -> tuple[HostSettings, ...]:
    """Return the hops in the order in which they are opened; the last one is the server.

    Raises `UsageError` for what cannot be a host, user or port, `ConnectionFailed` if the
    configuration is unusable, `AuthenticationRefused` if the given identity cannot be read.
    """
    route = _hops(address, config, ())
    if address.identity_file is not None:
        identity = route[-1].identity_files[0]
        if not identities.is_readable(identity):
            raise AuthenticationRefused(
                f"the identity file {identity} cannot be read",
                hint="correct identity_file in the inventory",
            )
    return route


def _hops(
    address: Address, config: UserConfig, behind: tuple[HostSettings, ...]
) -> tuple[HostSettings, ...]:
    if len(behind) >= _MOST_HOPS:
        chain = " <- ".join(hop.alias for hop in behind)
        raise ConnectionFailed(
            f"the ssh configuration has more than {_MOST_HOPS} jumps",
            hint="look for a ProxyJump that leads back to itself in ~/.ssh/config",
            details=[chain],
        )
    _check(address)
    settings = config.lookup(address)
    if settings.jump is None:
        return (settings, *behind)
    *before, last = settings.jump.split(",")
    # As in `ssh -J a,b`: b is reached through a, and only a may have a ProxyJump of its own.
    hop = parse_jump(last, ",".join(before) or None)
    return _hops(hop, config, (settings, *behind))


def parse_jump(text: str, jump: str | None = None) -> Address:
    """Parse `[user@]host[:port]` or `ssh://...`, as in ProxyJump: the address of no `server`."""
    text = text.strip().removeprefix("ssh://").rstrip("/")
    user, at, rest = text.rpartition("@")
    match = re.fullmatch(r"(\[[^][]+\]|[^][:]+|[^][:]*(?::[^][:]*){2,})(?::(\d+))?", rest)
    if match is None:
        raise UsageError(f"{text!r} is not a jump host", hint="write [user@]host[:port]")
    host, port = match[1].strip("[]"), match[2]
    return Address("", host, user if at else None, int(port) if port else None, jump)


def _check(address: Address) -> None:
    if not _HOST.match(address.host):
        raise UsageError(f"{address.host!r} is not a host name")
    if address.user is not None and not _USER.match(address.user):
        raise UsageError(f"{address.user!r} is not a user name")
    if address.port is not None and not 0 < address.port < 65536:
        raise UsageError(f"{address.port} is not a port number")
    if address.jump is not None and address.jump.lower() != "none":
        for hop in address.jump.split(","):
            _check(parse_jump(hop))
