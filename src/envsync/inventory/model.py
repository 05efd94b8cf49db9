"""The inventory as the rest of envsync sees it: frozen values, already validated.

Stdlib only, so that a push without an inventory imports nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from envsync.errors import InventoryError, UsageError, listed
from envsync.inventory import names, ranges
from envsync.inventory.identity import own_server_names
from envsync.tree.environment_name import BASE
from envsync.tree.sharing import WRITE, Share

MethodName = Literal["auto", "mirror", "pack", "rebuild"]
InUse = Literal["publish", "wait", "fail"]
Outside = Literal["warn", "fail"]
ShareMode = Literal["read", "write"]

DEFAULT_KEEP = 1
DEFAULT_CHECK_TIMEOUT_SECONDS = 60.0

NAMES_SHOWN = 12

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Server:
    """An entry of the inventory, or a host without one.

    A `user`, `port`, `jump` or `identity_file` of None means "what the ssh configuration says".
    """

    name: str
    host: str
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    identity_file: Path | None = None
    """The path as written, with its `~`, so that an inventory means the same for every user."""
    prefix: str | None = None
    """conda's base directory there; None if neither entry nor inventory gives one."""
    groups: tuple[str, ...] = ()
    limit_bits_per_second: int | None = None
    share: Share | None = None
    """The share of every environment there that has none of its own."""


@dataclass(frozen=True, slots=True)
class Environment:
    """How one environment is kept; the defaults are those of an unlisted environment."""

    name: str
    source: str | None = None
    push_to: tuple[str, ...] = ()
    """Tokens as written; `Inventory.targets` resolves them."""
    method: MethodName = "auto"
    keep: int = DEFAULT_KEEP
    check: str | None = None
    check_timeout_seconds: float = DEFAULT_CHECK_TIMEOUT_SECONDS
    in_use: InUse = "publish"
    local: tuple[str, ...] = ()
    """Globs to add to the shipped defaults, which are not included."""
    outside: Outside = "warn"
    watch: bool = False
    share: Share | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """The daemon's intervals."""

    settle_seconds: float = 10.0
    rescan_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Inventory:
    """The whole file, or where `path` is None, the lack of one: any host is a server then."""

    path: Path | None = None
    prefix: str | None = None
    servers: tuple[Server, ...] = ()
    environments: tuple[Environment, ...] = ()
    watch: Watch = field(default_factory=Watch)

    def select(self, tokens: Sequence[str], unlisted: Sequence[Server] = ()) -> tuple[Server, ...]:
        """Return the servers that `SERVER`, `@GROUP` or `RANGE` tokens name, in order, each once.

        Servers in `unlisted` can be named as well; the file's take precedence over them.
        """
        chosen: dict[str, Server] = {}
        unknown: list[str] = []
        for token in tokens:
            for resolved in self._resolve(token, unlisted):
                if isinstance(resolved, Server):
                    chosen.setdefault(resolved.name, resolved)
                else:
                    unknown.append(resolved)
        if unknown:
            raise self._unknown(list(dict.fromkeys(unknown)))
        return tuple(chosen.values())

    def server(self, name: str, unlisted: Sequence[Server] = ()) -> Server:
        """Return one server by its name, not a group or range; `unlisted` as in `select`."""
        server = self._by_name(unlisted).get(name)
        if server is not None:
            return server
        if name.startswith("@") or ranges.is_range(name):
            kind = "group" if name.startswith("@") else "range"
            raise InventoryError(
                f"expected one server, got the {kind} {name!r}",
                hint="name one of its servers; for several, repeat the command",
            )
        if self.path is None:
            return self._bare(name)
        raise self._unknown([name])

    def lists(self, environment: str) -> bool:
        return environment in {listed.name for listed in self.environments}

    def environment(self, name: str) -> Environment:
        """Return the entry of that name, or the defaults if the inventory does not list it.

        Raises `UsageError` for `base` and for an invalid name.
        """
        by_name = {environment.name: environment for environment in self.environments}
        if name == BASE:
            raise UsageError(
                "base is conda itself, which differs on every server: it is not pushed",
                hint="for a new server: `envsync bootstrap SERVER`; to push what you installed in "
                "base: conda create -n NAME --clone base",
            )
        try:
            return by_name.get(name) or Environment(names.environment_name(name))
        except ValueError as error:
            raise UsageError(f"expected {error}, got {name!r}") from None

    def publishers(self, server: str) -> str:
        """Return a group that may publish on `server`, or "".

        The server's own `share` comes first, then those of all environments in order.
        """
        shares = [entry.share for entry in self.servers if entry.name == server]
        shares += [entry.share for entry in self.environments]
        groups = (share.group for share in shares if share is not None and share.access == WRITE)
        return next(groups, "")

    def targets(self, environment_name: str) -> tuple[Server, ...]:
        """Return the servers of the environment's `push_to`, without its source.

        Raises `InventoryError` if there is no `push_to`, or a name in it is unknown.
        """
        environment = self.environment(environment_name)
        if not environment.push_to:
            names_pushed = [entry.name for entry in self.environments if entry.push_to]
            raise InventoryError(
                f"{self._place} does not say where {environment_name!r} is pushed to"
                f"{names.suggestion(environment_name, names_pushed)}",
                hint=f"name servers, or give {environment_name} `push_to:` there",
                details=listing("environments with push_to", names_pushed),
            )
        return tuple(
            server
            for server in self.select(environment.push_to)
            if server.name != environment.source
        )

    def own_name(
        self, as_name: str | None, environ: Mapping[str, str], hostname: str
    ) -> str | None:
        """Return the entry that is this machine: by `--as`, `$ENVSYNC_SELF`, else by its hostname.

        Returns None if no entry fits. Raises `InventoryError` if a given name is not in the
        inventory or the hostname fits several entries.
        """
        given = environ.get("ENVSYNC_SELF") or None if as_name is None else as_name
        if given is not None:
            return self._own(given)
        matches = own_server_names(
            [(server.name, server.host) for server in self.servers], hostname
        )
        if len(matches) > 1:
            raise InventoryError(
                f"the hostname {hostname!r} matches several servers: {', '.join(matches)}",
                hint="say which one this is: ENVSYNC_SELF=NAME, or for the daemon --as NAME",
            )
        return matches[0] if matches else None

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(sorted({group for server in self.servers for group in server.groups}))

    @property
    def _place(self) -> str:
        return "the command line" if self.path is None else str(self.path)

    def _own(self, given: str) -> str:
        try:
            # Only a name is allowed: without a file, `server` would accept `USER@HOST` as well.
            return self.server(_checked(names.server_name, given)).name
        except InventoryError as error:
            error.hint = (
                "this machine's own name is given by $ENVSYNC_SELF, or for the daemon by --as"
            )
            raise

    def _by_name(self, unlisted: Sequence[Server]) -> dict[str, Server]:
        return {server.name: server for server in (*unlisted, *self.servers)}

    def _resolve(self, token: str, unlisted: Sequence[Server]) -> Iterable[Server | str]:
        """Return the servers of one token, with the name of each unknown server in its place."""
        if token.startswith("@"):
            members = [server for server in self.servers if token[1:] in server.groups]
            return members or [token]
        by_name = self._by_name(unlisted)
        expanded = _checked(ranges.expand, token)
        if self.path is None:
            return [by_name.get(name) or self._bare(name) for name in expanded]
        return [by_name.get(name, name) for name in expanded]

    def _bare(self, token: str) -> Server:
        """Return a server for a host that is not in an inventory; its name is the token as written.

        Two users of one host are two servers, so that a hint that names one of them leads to that
        user.
        """
        user, _, host = token.rpartition("@")
        return Server(
            name=token,
            host=_checked(names.server_name, host),
            user=_checked(names.user, user) if user else None,
            prefix=self.prefix,
        )

    def _unknown(self, wanted: Sequence[str]) -> InventoryError:
        first = wanted[0]
        kind = "group" if first.startswith("@") else "server"
        if self.path is None:
            return InventoryError(
                f"there is no {kind} {first!r}: no inventory was found",
                hint="write one (see config.example.yaml), or name hosts",
            )
        servers = [server.name for server in self.servers]
        groups = [f"@{group}" for group in self.groups]
        hosted = [repr(server.name) for server in self.servers if server.host == first]
        near = f"; it is the host of {listed(hosted)}" if hosted else ""
        near = near or names.suggestion(first, servers + groups)
        return InventoryError(
            f"{self.path} has no {kind} {first!r}{near}",
            hint=_correction(first, servers) or "use a name from the inventory",
            details=[
                *listing("not in the inventory", wanted if len(wanted) > 1 else ()),
                *listing("servers", servers),
                *listing("groups", groups),
            ],
        )


def _correction(token: str, servers: Sequence[str]) -> str:
    """Return a hint for a token that names servers, but in another program's way; else ""."""
    parts = [part for part in token.split(",") if part]
    if len(parts) > 1 and all(part in servers for part in parts):
        return f"separate servers by spaces: {' '.join(parts)}"
    bare = token.rpartition("@")[2].partition(":")[0]
    if bare in servers and not token.startswith("@"):
        return f"`user:` and `port:` belong in the inventory; here, say {bare}"
    return ""


def listing(title: str, entries: Sequence[str]) -> list[str]:
    return [f"{title}: {listed(entries, NAMES_SHOWN)}"] if entries else []


def _checked(check: Callable[[str], _T], text: str) -> _T:
    """Return `check(text)`; its complaint about a command-line text becomes an `InventoryError`."""
    try:
        return check(text)
    except ValueError as error:
        raise InventoryError(f"expected {error}, got {text!r}") from None
