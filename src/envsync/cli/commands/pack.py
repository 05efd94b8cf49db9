"""`envsync pack`: pack an environment into an archive file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envsync.cli.invocation.arguments import environment_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import duration
from envsync.errors import UsageError
from envsync.texts.sizes import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from envsync.cli.invocation.site import Site
    from envsync.push.ends.source import Source

_SHARED = 0o664
"""An archive's mode before the umask: whatever that is, not everybody may write it."""


@click.command()
@environment_argument
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The archive: .tar.zst, .tar.gz, .tar.bz2, .tar.xz or .tar.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@common_options
@click.pass_obj
def pack(invocation: Invocation, environment: str, output: Path, force: bool) -> None:
    """Pack the environment ENV of this machine into FILE, with conda-pack.

    `envsync unpack FILE SERVER` brings it to a server. Without envsync, extract it with tar and
    run bin/conda-unpack.

    \b
      envsync pack myenv -o myenv.tar.zst
    """
    import time

    from envsync.cli.pushing.request import require_environment

    site = invocation.site()
    environment = site.inventory.environment(environment).name  # refuses base
    require_environment(site.own_prefix, environment)
    form = _format(output)
    if not invocation.terminal.is_interactive:  # there, progress is shown
        invocation.terminal.say(f"{environment} -> {output} ...")
    began = time.monotonic()
    warnings = _write(invocation, site, environment, output, form, force=force)
    seconds = time.monotonic() - began
    size_bytes = output.stat().st_size
    invocation.result = {
        "environment": environment,
        "file": str(output.absolute()),
        "format": form,
        "size_bytes": size_bytes,
        "seconds": seconds,
        "warnings": list(warnings),
    }
    packed = f"{size(size_bytes)}, {duration(seconds)}"
    invocation.terminal.say(f"{environment} -> {output}: {packed}")
    for warning in warnings:
        invocation.terminal.warning(warning)


def _format(output: Path) -> str:
    """Return the archive format that the file's name implies."""
    from envsync.push.packing.pack_archive import FORMATS, format_of

    known = format_of(output.name)
    if str(output) == "-":
        raise UsageError("an archive cannot be written to stdout", hint="name a file: -o FILE")
    if known is None:
        raise UsageError(
            f"{output.name} does not end like an archive",
            hint=f"end it with .{', .'.join(FORMATS)}",
        )
    return known[0]


def _write(
    invocation: Invocation, site: Site, environment: str, output: Path, form: str, *, force: bool
) -> tuple[str, ...]:
    """Pack the environment, and return the warnings; refuse it if it is busy or changes."""
    from envsync.cli.invocation.asking import progress_lines
    from envsync.push.ends.local_source import open_local
    from envsync.push.packing.disk_here import OTHER_OUTPUT, disk_here
    from envsync.push.packing.pack_archive import PRIVATE, pack_unchanged, write_archive
    from envsync.push.preflight.preflight import credential_warnings
    from envsync.push.steps.report import ServerProgress

    where, local = Path(site.own_prefix, "envs", environment), site.local(environment)
    with progress_lines(invocation.terminal, [site.here_place()]) as (show, _):

        def open_source() -> Source:
            return open_local(site.here_place(), environment, local)

        def on_packed(done_bytes: int, total_bytes: int) -> None:
            show(ServerProgress(site.own_name, "pack", done_bytes, total_bytes))

        def write(source: Source, require_unchanged: Callable[[], None]) -> tuple[str, ...]:
            credentials = credential_warnings(source.credentials(), "the archive")
            with disk_here(output.absolute().parent, OTHER_OUTPUT):
                packed = write_archive(
                    where,
                    output,
                    form,
                    force=force,
                    local=local,
                    mode=PRIVATE if credentials else _SHARED & ~invocation.umask,
                    on_packed=on_packed,
                    require_unchanged=require_unchanged,
                )
            return (*packed, *credentials)

        show(ServerProgress(site.own_name, "inspect"))
        return pack_unchanged(open_source, write)
