"""Resolves a push command line to settings and destinations, or refuses it with the reason."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from envsync.cli.invocation.site import Site
from envsync.errors import NotFound, UsageError
from envsync.hint_commands import command_line
from envsync.inventory import Environment, Server, bits_per_second, environment_name
from envsync.inventory.model import listing
from envsync.inventory.names import suggestion
from envsync.push.request.method import AUTO, METHODS, PACK, REBUILD
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.transport import names as transports
from envsync.tree.environment_name import is_environment_name

T = TypeVar("T")
_MAKE_ARCHIVE = f"{command_line('pack', 'ENV', '-o', 'FILE')} makes one"


@dataclass(frozen=True, slots=True)
class PushOptions:
    """The options of the command line, as written."""

    environment: str
    servers: tuple[str, ...] = ()
    from_server: str | None = None
    name_there: str | None = None
    method: str | None = None
    from_history: bool = False
    transport: str = "auto"
    dry_run: bool = False
    overwrite: bool = False
    force_platform: bool = False
    allow_shrink: bool = False
    retry_held: bool = False
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A resolved push; `left_out` are servers that were named although they are the source."""

    settings: PushSettings
    source: Place
    destinations: tuple[Destination, ...]
    left_out: tuple[str, ...] = ()


def resolve_push(site: Site, options: PushOptions) -> PushRequest:
    """Return the request of a push, refusing what can be refused without asking a server."""
    environment = site.inventory.environment(options.environment)
    source = _source(site, options, environment)
    settings = _settings(site, options, environment, source)
    named = site.servers_of("push", environment.name, options.servers)
    servers = [server for server in named if server.name != source.server]
    if not servers:
        raise UsageError(
            f"{source.server} is the source: there is nowhere to push to",
            hint=command_line("push", environment.name, "SERVER"),
        )
    if source.open_link is None:
        require_environment(source.prefix, environment.name)
    destinations = tuple(_destination(site, server, options) for server in servers)
    _require_usable(options.transport, settings, source, destinations)
    return PushRequest(
        settings,
        source,
        destinations,
        tuple(server.name for server in named if server.name == source.server and options.servers),
    )


def resolve_pull(site: Site, options: PushOptions) -> PushRequest:
    """Return the request of a pull: to this machine, from `options.from_server`."""
    environment = site.inventory.environment(options.environment)
    assert options.from_server is not None
    source = site.place(site.server_of("pull", environment.name, options.from_server))
    if source.open_link is None:
        raise UsageError(
            f"{source.server} is this machine: there is nothing to pull",
            hint=command_line("pull", environment.name, "SERVER"),
        )
    settings = _settings(site, options, environment, source)
    # The inventory's settings for this machine apply, as in a push from there.
    return PushRequest(settings, source, (_destination(site, site.here_server, options),))


def resolve_unpack(site: Site, options: PushOptions, archive: Path) -> PushRequest:
    """Return the request to unpack an archive as the environment `options.environment`."""
    environment = site.inventory.environment(options.environment)
    here = site.here_place()
    settings = replace(
        _settings(site, options, environment, here),
        archive=str(archive.absolute()),
        source=f"{here.server}:{archive.absolute()}",
    )
    servers = site.servers_of("unpack", environment.name, options.servers)
    destinations = tuple(_destination(site, server, options) for server in servers)
    return PushRequest(settings, here, destinations)


def require_archive(path: Path) -> None:
    if _looks(path.is_dir):
        raise UsageError(f"{path} is a directory, not an archive", hint=_MAKE_ARCHIVE)
    if not _looks(path.is_file):
        missing = f"there is no file {path}"
        odd = f"{path} is not a regular file"
        raise NotFound(odd if _looks(path.exists) else missing, hint=_MAKE_ARCHIVE)


def _source(site: Site, options: PushOptions, environment: Environment) -> Place:
    """Return the server in `--from`, else this machine if the inventory lets it push."""
    if options.from_server is not None:
        return site.place(site.server(options.from_server))
    if site.own is not None and environment.source not in (None, site.own):
        raise UsageError(
            f"the inventory says that {environment.source} pushes {environment.name}, "
            f"and this is {site.own}",
            hint=f"push it from there with --from {environment.source}, or insist with "
            f"--from {site.own}",
        )
    return site.here_place()


def _method(options: PushOptions, environment: Environment, source: Place) -> str:
    """Return the method that the command line, else the inventory, asks for."""
    method = options.method or environment.method
    _require_known("method", method, METHODS)
    if options.from_history and options.method not in (None, AUTO, REBUILD):
        raise UsageError(
            f"--from-history rebuilds the environment, but --method {method} copies it",
            hint=f"omit one of them, or use --method {REBUILD}",
        )
    if options.force_platform and (options.from_history or options.method == REBUILD):
        rebuilding = "--from-history" if options.from_history else f"--method {REBUILD}"
        raise UsageError(
            f"--force-platform sends the files to another platform, but {rebuilding} sends none",
            hint="omit one of them",
        )
    if method == PACK and source.open_link is not None:
        raise UsageError(
            f"--method {PACK} packs what is on this machine, but the source is {source.server}",
            hint=f"run it there, or omit --method {PACK}",
        )
    return REBUILD if options.from_history else method


def _settings(
    site: Site, options: PushOptions, environment: Environment, source: Place
) -> PushSettings:
    method = _method(options, environment, source)
    _require_known("transport", options.transport, (transports.AUTO, *transports.NAMED))
    return PushSettings(
        environment=environment.name,
        source=f"{source.server}:{source.prefix}",
        who=site.who,
        method=method,
        from_history=options.from_history,
        transport=options.transport,
        keep=environment.keep,
        check=environment.check or "",
        check_timeout_seconds=environment.check_timeout_seconds,
        in_use=environment.in_use,
        outside=environment.outside,
        local=site.local(environment.name),
        dry_run=options.dry_run,
        overwrite=options.overwrite,
        force_platform=options.force_platform,
        allow_shrink=options.allow_shrink,
        retry_held=options.retry_held,
        environment_there=_option("--as", environment_name, options.name_there) or "",
        limit_bits_per_second=_option("--limit", bits_per_second, options.limit),
    )


def _require_known(kind: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UsageError(
            f"there is no {kind} {name!r}{suggestion(name, names)}",
            hint=f"one of: {', '.join(names)}",
        )


def _require_usable(
    transport: str, settings: PushSettings, source: Place, destinations: Sequence[Destination]
) -> None:
    """Raise what a transport would refuse only after the staging tree was made."""
    limits = [settings.limit_bits_per_second, *(to.limit_bits_per_second for to in destinations)]
    refusal = None
    if transport in (transports.RSYNC, transports.SCP) and source.open_link is not None:
        refusal = "the source is another server"
    elif transport == transports.SCP and any(limit is not None for limit in limits):
        refusal = "it cannot limit its rate"
    if refusal is not None:
        raise UsageError(
            f"--transport {transport} cannot be used: {refusal}", hint="omit --transport"
        )


def _option(name: str, parse: Callable[[str], T], text: str | None) -> T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{name}: expected {error}, got {text!r}") from None


def _looks(test: Callable[[], bool]) -> bool:
    """Return the result of a path test; False if this user may not look or the name is too long."""
    try:
        return test()
    except OSError:
        return False


def require_environment(prefix: str, name: str) -> None:
    """Raise `NotFound`, with the nearest name, if there is no such environment on this machine."""
    environments = Path(prefix, "envs")
    place = environments / name
    if _looks(place.is_dir):
        return
    if _looks(place.is_symlink):
        raise NotFound(
            f"the environment {name!r} here is a link to {place.readlink()}, which does not exist",
            hint=f"restore that, or remove the link: rm {shlex.quote(str(place))}",
        )
    try:
        entries = [path for path in environments.iterdir() if is_environment_name(path.name)]
        names = [path.name for path in entries if path.is_dir()]
    except OSError:
        names = []
    raise NotFound(
        f"there is no environment {name!r} here{suggestion(name, names)}",
        details=[f"looked for {environments / name}", *listing("there", sorted(names))],
        hint="`envsync list` shows the environments" if names else "",
    )


def _destination(site: Site, server: Server, options: PushOptions) -> Destination:
    limit = server.limit_bits_per_second if options.limit is None else None
    share = site.inventory.environment(options.environment).share or server.share
    return Destination(server.name, site.prefix(server), site.opener(server), limit, share)
