"""The environments that a daemon keeps in step, and their servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envsync.errors import InventoryError, UsageError
from envsync.inventory.model import Inventory, Server


@dataclass(frozen=True, slots=True)
class Assignment:
    """One environment of this machine, and the servers that it is pushed to."""

    environment: str
    path: str
    """Where the environment is on this machine."""
    places: Mapping[str, str]
    """What each server's name leads to (see `_place`); if it changes, it is another server."""
    settle_seconds: float
    """How long it has to be quiet before it is pushed."""
    local: tuple[str, ...] = ()
    """The patterns of local paths, which are not pushed."""

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(self.places)


@dataclass(frozen=True, slots=True)
class Assignments:
    """All environments that this machine's daemon pushes.

    `elsewhere` are those that another machine's does, each with that machine, its source.
    """

    own: str
    rescan_seconds: float
    by_name: dict[str, Assignment] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def servers(self) -> tuple[str, ...]:
        """Every server that one of them is pushed to, each once."""
        named = (server for found in self.by_name.values() for server in found.servers)
        return tuple(dict.fromkeys(named))


def find_assignments(inventory: Inventory, own: str | None, hostname: str) -> Assignments:
    """Return the environments with `watch: true` whose source is this machine.

    Raises `UsageError` if `own` is None, that is, if it is not clear which server of the
    inventory this machine is: a daemon that guesses could push from the wrong machine. Raises
    `InventoryError` if the inventory does not say where conda is on it.
    """
    if own is None:
        listed = ", ".join(server.name for server in inventory.servers)
        raise UsageError(
            f"this machine is not in the inventory: its hostname is {hostname!r}",
            details=[f"servers: {listed}"] if listed else [],
            hint="say which server it is: --as NAME",
        )
    prefix = inventory.server(own).prefix
    if prefix is None:
        raise InventoryError(
            f"{inventory.path} does not say where conda is on {own}",
            hint="set `prefix:` for all servers or for this one",
        )
    watched = [entry for entry in inventory.environments if entry.watch and entry.push_to]
    return Assignments(
        own=own,
        rescan_seconds=inventory.watch.rescan_seconds,
        by_name={
            entry.name: Assignment(
                entry.name,
                f"{prefix}/envs/{entry.name}",
                {server.name: _place(server) for server in inventory.targets(entry.name)},
                inventory.watch.settle_seconds,
                entry.local,
            )
            for entry in watched
            if entry.source == own
        },
        elsewhere={
            entry.name: entry.source
            for entry in watched
            if entry.source is not None and entry.source != own
        },
    )


def _place(server: Server) -> str:
    """Return account, host, port and prefix of a server, as far as the inventory gives them."""
    user = "" if server.user is None else f"{server.user}@"
    port = "" if server.port in (None, 22) else f":{server.port}"
    return f"{user}{server.host}{port} {server.prefix or ''}"
