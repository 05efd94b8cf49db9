"""Unpacking an archive of conda-pack's, for the place where it is unpacked."""

from __future__ import annotations

from pathlib import Path

from envsync.agent.staging.writing import space_guard
from envsync.errors import SourceRefused
from envsync.push.packing.conda_unpack import UNPACK, has_conda_unpack, settle
from envsync.push.packing.extraction import extract


def unpack(archive: Path, top: Path) -> tuple[bytes, ...]:
    """Unpack into the empty directory `top`, and give what names its prefix this one.

    The paths where it stood, if the archive says them: they may be named still. Raises
    `SourceRefused` where the archive is damaged, is none of conda-pack's, or has a path that
    leads out. Symlinks may lead anywhere, as they may in an environment: nothing is read or
    written through one, and the push tells of those that lead out.
    """
    symlinks = extract(archive, top)
    if not has_conda_unpack(top):
        raise SourceRefused(
            f"{archive} is no archive of conda-pack's, or its end is missing: it has no {UNPACK}",
            hint="make one with `envsync pack`, or with `conda pack` without --dest-prefix",
        )
    with space_guard():
        return settle(top, symlinks)
