"""The route to a server, with everything that is known of every hop before it is contacted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from envsync.errors import AuthenticationRefused, ConnectionFailed, EnvsyncError, UsageError
from envsync.ssh import identities, mux
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.known_hosts import KnownHosts, known_hosts
from envsync.ssh.session import Address
from envsync.ssh.ssh_config import UserConfig

_ANSWER_SECONDS = 2.0

# More hops than any real route; stops at a configuration that jumps in a circle.
_MOST_HOPS = 8

# What a host or a user may contain on a command line or in a configuration: no leading dash (an
# option), no blank, quote, control or shell character.
_HOST = re.compile(r"(?!-)[\w.:%\[\]-]+\Z")
_USER = re.compile(r"(?!-)[\w.@\\+$-]+\Z")


@dataclass(frozen=True, slots=True)
class Hop:
    """One host of the route; the last one is the server.

    `users_socket` is that of the user's own live ControlMaster to it, if there is one.
    """

    place: HopPlace
    known: KnownHosts
    users_socket: Path | None = None

    @property
    def settings(self) -> HostSettings:
        return self.place.settings


@dataclass(frozen=True, slots=True)
class ResolvedRoute:
    """A route resolved once per link, for any implementation. `hops` is never empty."""

    server: str
    config: UserConfig
    hops: tuple[Hop, ...]

    @classmethod
    def find(cls, address: Address, environ: Mapping[str, str]) -> ResolvedRoute:
        """Resolve a route without contacting any host; raises as `session.Link` says."""
        config = UserConfig(environ)
        try:
            route = find_route(address, config)
            known = [known_hosts(settings, config) for settings in route]
        except EnvsyncError as error:
            error.server = address.server
            raise
        places = [
            HopPlace(
                address.server,
                settings,
                is_jump=number < len(route) - 1,
                is_direct=number == 0 and settings.proxy_command is None,
            )
            for number, settings in enumerate(route)
        ]
        return cls(address.server, config, tuple(map(Hop, places, known, map(_live_master, route))))

    def without_masters(self) -> ResolvedRoute:
        """Return the route without the user's ControlMasters."""
        return replace(self, hops=tuple(replace(hop, users_socket=None) for hop in self.hops))

    @property
    def settings(self) -> tuple[HostSettings, ...]:
        return tuple(hop.settings for hop in self.hops)

    @property
    def connect_timeout_seconds(self) -> float:
        """The longest `ConnectTimeout` of the route in seconds; 0 if there is none."""
        return max(settings.connect_timeout_seconds for settings in self.settings)

    @property
    def last(self) -> Hop:
        return self.hops[-1]


def _live_master(settings: HostSettings) -> Path | None:
    path = settings.control_path
    # With "ask", every session over the master would prompt on the user's screen.
    if path is None or settings.control_master in ("ask", "autoask"):
        return None
    return path if mux.is_ours(path) and mux.is_alive(path, _ANSWER_SECONDS) else None


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
