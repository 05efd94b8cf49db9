"""`envsync unpack`: bring the environment in an archive to servers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from envsync.cli.invocation.arguments import servers_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options, push_options
from envsync.errors import UsageError


@click.command()
@click.argument("archive", metavar="FILE", type=click.Path(path_type=Path))
@servers_argument(required=True)
@click.option("--as", "name", metavar="NAME", help="Its name on the servers.  [FILE's name]")
@push_options
@common_options
@click.pass_obj
def unpack(
    invocation: Invocation,
    /,
    archive: Path,
    name: str | None,
    servers: tuple[str, ...],
    **rest: Any,
) -> None:
    """Bring the environment in FILE to each SERVER, relocated to its path there.

    FILE was made by `envsync pack` or `conda pack`. It is unpacked in a private directory here
    and then pushed like any environment: whole, verified, and only what the server lacks.

    \b
      envsync unpack myenv.tar.zst server2
      envsync unpack download.tar.gz @gpu --as myenv
    """
    from envsync.cli.pushing.following import push_and_report
    from envsync.cli.pushing.request import PushOptions, require_archive, resolve_unpack
    from envsync.push.request.method import PACK

    require_archive(archive)
    environment = _name_of(archive) if name is None else name
    options = PushOptions(environment, servers=servers, method=PACK, **rest)
    site = invocation.site()
    push_and_report(invocation, site, resolve_unpack(site, options, archive))


def _name_of(archive: Path) -> str:
    """Return the environment name that the archive's file name gives."""
    from envsync.inventory.names import environment_name
    from envsync.push.packing.pack_archive import FORMATS, format_of

    known = format_of(archive.name)
    with contextlib.suppress(ValueError):
        if known is not None:
            return environment_name(archive.name.removesuffix(known[1]))
    raise UsageError(
        f"{archive.name} gives no name for the environment",
        hint=f"--as NAME gives it one; archives end with .{', .'.join(FORMATS)}",
    )
