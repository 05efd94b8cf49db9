"""Unpacks an archive made by conda-pack for the path where it is unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envsync.errors import SourceRefused, listed
from envsync.push.packing.conda_unpack import UNPACK, has_conda_unpack, replace_earlier_prefix
from envsync.push.packing.disk_here import LARGER_CACHE, disk_here
from envsync.push.packing.extraction import extract
from envsync.push.packing.recorded_digests import differing

_NAMES_SHOWN = 5


@contextmanager
def _hinted() -> Iterator[None]:
    """Let each refusal say what helps; most are of what conda-pack never writes."""
    try:
        yield
    except SourceRefused as error:
        error.hint = error.hint or "make one with `envsync pack`, or with `conda pack`"
        raise


@_hinted()
def unpack(archive: Path, top: Path, *, is_own: bool = False) -> tuple[bytes, ...]:
    """Unpack into the empty directory `top`, and replace the archive's prefix by it.

    Returns the paths where the environment was, if the archive says them: files may still contain
    them. Raises `SourceRefused` if the archive is damaged, was not made by conda-pack, or has a
    path that leads out. Symlinks may lead anywhere, as in any environment: nothing is read or
    written through one, and the push warns of those that lead out. An archive that this command
    itself has packed (`is_own`) needs no proof that it is whole.
    """
    extracted = extract(archive, top, is_own=is_own)
    if not has_conda_unpack(top):
        _refuse_below(archive, top)
        raise SourceRefused(
            f"{archive} is not from conda-pack, or its end is missing: it has no {UNPACK}",
            hint="make one with `envsync pack`, or with `conda pack` without --dest-prefix",
        )
    if not extracted.is_proven:
        _require_as_recorded(archive, top)
    with disk_here(top, LARGER_CACHE):
        return replace_earlier_prefix(top, extracted.symlinks)


def _refuse_below(archive: Path, top: Path) -> None:
    """Refuse an archive whose environment has directories above it, made with `--arcroot`."""
    there = top
    while not has_conda_unpack(there):
        inside = list(there.iterdir())
        if len(inside) != 1 or inside[0].is_symlink() or not inside[0].is_dir():
            return
        [there] = inside
    raise SourceRefused(
        f"{archive} has its environment below {there.relative_to(top)}/",
        hint="make one with `envsync pack`, or with `conda pack` without --arcroot",
    )


def _require_as_recorded(archive: Path, top: Path) -> None:
    """Refuse an archive without a checksum if files differ from those that were installed."""
    differ = differing(top)
    if differ:
        names = listed(differ, _NAMES_SHOWN)
        raise SourceRefused(
            f"{archive} is damaged: conda or pip recorded other contents for {names}",
            hint="copy it here again; if somebody edited those files, pack with `envsync pack`, or "
            "as .tar.gz, which has a checksum",
        )
