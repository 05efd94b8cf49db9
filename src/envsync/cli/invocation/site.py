"""The servers that a run knows: the inventory, and which of them this machine is."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envsync.agent.server.accounts import user_name
from envsync.cli.invocation.active_conda import active_conda_prefix
from envsync.errors import InventoryError, UsageError
from envsync.hint_commands import command_line
from envsync.inventory import Inventory, Server
from envsync.push.request.places import Place
from envsync.ssh.session import Address, Link
from envsync.tree.local import DEFAULT_LOCAL


@dataclass(frozen=True, slots=True)
class Site:
    """The inventory and this machine; `own` is its name in there, None if it is not listed.

    `conda_prefix` is what `CONDA_PREFIX` says, whether or not it leads to the `active_prefix`.
    """

    inventory: Inventory
    own: str | None
    hostname: str
    active_prefix: str | None
    conda_prefix: str = ""

    @classmethod
    def here(cls, inventory: Inventory, as_name: str | None, environ: Mapping[str, str]) -> Site:
        hostname = socket.gethostname()
        own = inventory.own_name(as_name, environ, hostname)
        conda_prefix = environ.get("CONDA_PREFIX", "")
        return cls(inventory, own, hostname, active_conda_prefix(environ), conda_prefix)

    @property
    def own_name(self) -> str:
        return self.own or self.hostname

    @property
    def who(self) -> str:
        return f"{user_name()}@{self.own_name}"

    @property
    def own_prefix(self) -> str:
        """conda's base directory on this machine; raises `UsageError` if it is unknown."""
        prefix = None if self.own is None else self.inventory.server(self.own).prefix
        prefix = prefix or self.inventory.prefix or self.active_prefix
        if prefix is None:
            why = "its base directory is unknown"
            if self.conda_prefix:
                why = f"CONDA_PREFIX is {self.conda_prefix!r}, which leads to no base directory"
            raise UsageError(
                f"no conda was found here: {why}",
                hint="activate conda (`conda activate`), or write an inventory with `prefix:`",
            )
        return prefix

    def prefix(self, server: Server) -> str:
        return server.prefix or self.own_prefix

    def local(self, environment: str) -> tuple[str, ...]:
        """Return the environment's paths that belong to each server."""
        return (*DEFAULT_LOCAL, *self.inventory.environment(environment).local)

    @property
    def here_server(self) -> Server:
        """This machine's entry, or a substitute if it has none."""
        if self.own is not None:
            return self.inventory.server(self.own)
        return Server(self.hostname, self.hostname)

    def server(self, token: str) -> Server:
        """Return the named server; this machine can be named, even if it is not listed."""
        return self._known(self.inventory.server(token, self._unlisted))

    def server_of(self, command: str, environment: str, token: str) -> Server:
        """Return the named server, as in `command environment token`; see `server`."""
        with self._told_of_exchange(command, environment, token):
            return self.server(token)

    @contextlib.contextmanager
    def _told_of_exchange(self, command: str, environment: str, *tokens: str) -> Iterator[None]:
        """Within the block, an unknown server may be the environment, and that the server."""
        try:
            yield
        except InventoryError as error:
            if len(tokens) == 1 and any(environment == one.name for one in self.inventory.servers):
                line = command_line(command, *tokens, environment)
                error.hint = f"the environment comes first: {line}"
            raise

    def select(self, tokens: Sequence[str]) -> tuple[Server, ...]:
        """Return the named servers, each once; see `server`."""
        named = self.inventory.select(tokens, self._unlisted)
        by_name = {server.name: server for server in map(self._known, named)}
        return tuple(by_name.values())

    def is_here(self, server: Server) -> bool:
        """Return whether `server` is this machine, as this user.

        The hostname decides only for a server that is not listed.
        """
        # `is`, because comparing each of a thousand servers with each takes a second.
        if any(server is listed for listed in self.inventory.servers):
            return server.name == self.own
        is_host = server.host in (self.own, self.hostname)
        return is_host and server.user in (None, user_name())

    def opener(self, server: Server) -> Callable[[], Link] | None:
        """Return a function that opens a link to the server; None if it is this machine."""
        return None if self.is_here(server) else link_opener(server)

    def here_place(self) -> Place:
        return Place(self.own_name, self.own_prefix)

    def place(self, server: Server) -> Place:
        return Place(server.name, self.prefix(server), self.opener(server))

    def places(self, tokens: Sequence[str]) -> list[Place]:
        return [self.place(server) for server in self.select(tokens)]

    def places_or_all(self, tokens: Sequence[str]) -> list[Place]:
        """Return the named servers, else all of the inventory.

        This machine is added if it is unlisted and has conda. One that only starts pushes between
        others may have none. Without an inventory, this machine is all.
        """
        if tokens:
            return self.places(tokens)
        listed = [self.place(server) for server in self.inventory.servers]
        if not listed:
            return [self.here_place()]
        return [*listed, self.here_place()] if self.own is None and self._has_conda() else listed

    def _has_conda(self) -> bool:
        try:
            return Path(self.own_prefix).is_dir()
        except (UsageError, OSError):
            return False

    def servers_of(
        self, command: str, environment: str, tokens: Sequence[str]
    ) -> tuple[Server, ...]:
        """Return the named servers, else those that the environment is pushed to."""
        environment = self.inventory.environment(environment).name
        if tokens:
            with self._told_of_exchange(command, environment, *tokens):
                return self.select(tokens)
        if self.inventory.path is None:
            raise UsageError(
                f"no server was named, and no inventory says where {environment} is pushed to",
                hint=command_line(command, environment, "SERVER"),
            )
        try:
            return self.inventory.targets(environment)
        except InventoryError as error:
            named = command_line(command, environment, "SERVER")
            error.hint = f"name servers: `{named}`; or give it `push_to:`"
            raise

    @property
    def _unlisted(self) -> tuple[Server, ...]:
        """This machine if it is unlisted, so that what it pulled can be listed and rolled back."""
        return (self.here_server,) if self.own is None else ()

    def _known(self, server: Server) -> Server:
        """Return `server`, or this machine's entry if that is the same machine."""
        return self.here_server if self.is_here(server) else server


def link_opener(server: Server, *, use_masters: bool = True) -> Callable[[], Link]:
    def open_it() -> Link:
        from envsync.ssh.light_import import import_libraries

        import_libraries()
        from envsync.ssh.opening import open_link  # its libraries take 0.1 s

        return open_link(
            Address(
                server=server.name,
                host=server.host,
                user=server.user,
                port=server.port,
                jump=server.jump,
                identity_file=server.identity_file,
            ),
            use_masters=use_masters,
        )

    return open_it
