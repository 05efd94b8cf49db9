"""The route to a server, with everything that is known of every hop before it is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from envsync.errors import EnvsyncError
from envsync.ssh import mux
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.known_hosts import KnownHosts, known_hosts
from envsync.ssh.route import find_route
from envsync.ssh.session import Address
from envsync.ssh.ssh_config import UserConfig

_ANSWER_SECONDS = 2.0


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
