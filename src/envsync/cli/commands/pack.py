"""`envsync pack`: an environment as a file to carry."""

from __future__ import annotations

from pathlib import Path

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import duration, size
from envsync.errors import UsageError


@click.command(short_help="Pack an environment into a file.")
@click.argument("environment", metavar="ENV")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The archive; .tar.gz, .tar.bz2, .tar.xz or .tar says which kind.  [.tar.zst]",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@common_options
@click.pass_obj
def pack(invocation: Invocation, environment: str, output: Path, force: bool) -> None:
    """Pack the environment ENV of this machine into FILE, with conda-pack.

    `envsync unpack FILE SERVER` brings it to a server; where there is no envsync, untar it and
    run bin/conda-unpack.

    \b
      envsync pack myenv -o myenv.tar.zst
    """
    import time

    from envsync.cli.invocation.asking import lines_that_move
    from envsync.cli.pushing.order import require_environment
    from envsync.push.ends.end import LocalEnd
    from envsync.push.ends.source_end import SourceEnd
    from envsync.push.packing.pack_archive import FORMATS, format_of, write_archive
    from envsync.push.packing.packed_source import at_rest
    from envsync.push.steps.report import Progress

    site = invocation.site()
    prefix = site.own_prefix
    require_environment(prefix, environment)
    said = format_of(output.name)
    if said is None:
        raise UsageError(
            f"the name {output.name} says no kind of archive",
            hint=f"end it with .{FORMATS[0]}, or one of: {', '.join(FORMATS[1:])}",
        )
    form, _ = said

    def look() -> SourceEnd:
        end = LocalEnd(site.own_name)
        return SourceEnd(end, prefix, environment, site.local(environment))

    began = time.monotonic()
    where = Path(prefix, "envs", environment)
    with lines_that_move(invocation.terminal, [site.here_place()]) as (show, _):

        def told(done_bytes: int, total_bytes: int) -> None:
            show(Progress(site.own_name, "pack", done_bytes, total_bytes))

        show(Progress(site.own_name, "inspect"))
        warnings = at_rest(
            look, lambda: write_archive(where, output, form, force=force, on_packed=told)
        )
    seconds = time.monotonic() - began
    invocation.result = {
        "environment": environment,
        "file": str(output.absolute()),
        "format": form,
        "size_bytes": output.stat().st_size,
        "seconds": seconds,
        "warnings": list(warnings),
    }
    packed = f"{size(output.stat().st_size)}, {duration(seconds)}"
    invocation.terminal.say(f"{environment} -> {output}: {packed}")
    for warning in warnings:
        invocation.terminal.warning(warning)
