"""Packs an environment into an archive, which is there whole or not at all, if it is at rest."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from envsync.errors import PreflightRefused, SourceRefused, UsageError
from envsync.push.ends.source import Source
from envsync.push.packing.disk_here import OTHER_OUTPUT
from envsync.push.preflight import preflight
from envsync.tree.local import LocalPaths

if TYPE_CHECKING:
    from envsync.push.packing.conda_pack_run import OnPacked

T = TypeVar("T")

FORMATS = ("tar.zst", "tar.gz", "tar.bz2", "tar.xz", "tar")
"""The formats that `unpack` reads; the first is the default."""

_SHORT = {".tgz": "tar.gz", ".tbz2": "tar.bz2", ".txz": "tar.xz"}

PRIVATE = 0o600


def format_of(name: str) -> tuple[str, str] | None:
    """Return the format and the ending that a file's name has; None for an unknown ending.

    A name without an ending gets the default format.
    """
    if "." not in name:
        return FORMATS[0], ""
    endings = {**{f".{form}": form for form in FORMATS}, **_SHORT}
    return next(((form, end) for end, form in endings.items() if name.endswith(end)), None)


def pack_unchanged(
    open_source: Callable[[], Source], pack: Callable[[Source, Callable[[], None]], T]
) -> T:
    """Pack an environment; raises `SourceRefused` if it is busy.

    `pack` is given the source as it was found, and a function that raises `SourceRefused` if it is
    busy or differs by now. `pack` calls that before the archive is where anybody looks for it.
    """
    source = open_source()
    before = source.look.state()
    preflight.require_source(before)

    def require_unchanged() -> None:
        after = open_source().look.state()
        preflight.require_source(after)
        if after.revision != before.revision:
            raise SourceRefused(
                "the source changed while it was packed", hint="pack it again when it is at rest"
            )

    return pack(source, require_unchanged)


def write_archive(
    environment: Path,
    output: Path,
    form: str,
    *,
    force: bool,
    local: Sequence[str] = (),
    mode: int = PRIVATE,
    on_packed: OnPacked = lambda _done, _total: None,
    require_unchanged: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Pack `environment` into the file `output`, whole or not at all; return conda-pack's warnings.

    What the patterns `local` name is left out. `mode` says who can read the archive, which has a
    checksum that proves it whole. `require_unchanged` is called when it is complete; if that
    raises, `output` stays what it was.

    Raises `SourceRefused` for what cannot be packed, `UsageError` or `PreflightRefused` for a place
    where no archive can be made, and the OSError of a full disk.
    """
    # Only whoever packs waits for conda-pack to be imported.
    from envsync.push.packing.conda_pack_run import run_conda_pack

    existing = _mode(output)
    if existing is not None and stat.S_ISDIR(existing):
        raise UsageError(f"{output} is a directory", hint="name the file to create")
    if (existing is not None or output.is_symlink()) and not force:
        raise PreflightRefused(f"{output} already exists", hint="--force replaces it")
    parent = output.absolute().parent
    if not stat.S_ISDIR(_mode(parent) or 0):
        raise UsageError(
            f"there is no directory {parent}", hint=f"mkdir -p {shlex.quote(str(parent))}"
        )
    with _workplace(parent) as workplace:
        archive = workplace / "archive"
        messages = run_conda_pack(environment, archive, form, LocalPaths(local), on_packed)
        with archive.open("rb") as file:
            os.fsync(file.fileno())
        archive.chmod(mode)
        require_unchanged()
        try:
            archive.replace(output)
        except PermissionError as error:
            raise _impossible(output, "replaced", error) from error
    return messages


def _mode(path: Path) -> int | None:
    """Return the mode of what is at `path`; None if nothing is."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _impossible(path, "read", error) from error


def _impossible(path: Path, participle: str, error: OSError) -> PreflightRefused:
    return PreflightRefused(f"{path} cannot be {participle}: {error.strerror}", hint=OTHER_OUTPUT)


@contextlib.contextmanager
def _workplace(beside: Path) -> Iterator[Path]:
    """Make a directory beside the archive to write it in, and remove it.

    So the name has either the whole archive or what was there before, and Ctrl-C leaves nothing
    behind.
    """
    try:
        workplace = Path(tempfile.mkdtemp(prefix=".envsync-", dir=beside))
    except OSError as error:
        raise _impossible(beside, "written", error) from error
    try:
        yield workplace
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
