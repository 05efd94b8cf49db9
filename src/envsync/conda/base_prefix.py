"""The base prefix of an environment, and which of its paths are conda's own.

A prefix can be a directory with much else in it (`/usr/local`, a user's home), so not all
that stands below one means conda.
"""

from __future__ import annotations

import posixpath
import re
from typing import Sequence

from envsync.conda.site_packages import SITE_PACKAGES

# What conda, mamba and micromamba write into environments, or have users write: the package
# cache in records, neighbours, the commands in histories, and what activates.
_OWN_PLACES = (
    rb"envs",
    rb"pkgs",
    rb"condabin",
    rb"conda-meta",
    rb"\.?condarc",
    rb"etc/conda",
    rb"etc/profile\.d/(?:conda|mamba|micromamba)\.(?:sh|csh)",
    rb"etc/fish/conf\.d/(?:conda|mamba|micromamba)\.fish",
    rb"shell/condabin",
    rb"bin/(?:python[0-9.]*t?|conda|conda-env|mamba|micromamba|activate|deactivate)",
    SITE_PACKAGES + rb"/(?:conda|xonsh/conda\.xsh)",
)

# What every conda prefix has at its top.
_TOP_PLACES = (
    rb"envs",
    rb"pkgs",
    rb"condabin",
    rb"conda-meta",
    rb"\.?condarc",
    rb"bin|sbin|libexec|lib|lib32|lib64|include|share|etc|man|ssl|var|shell",
    rb"compiler_compat",
    rb"[a-z0-9_]+-conda[a-z0-9_.]*-linux-gnu[a-z]*",
)

# A name does not go on behind it.
ENDS = rb"(?![A-Za-z0-9_]|[.+~-]+[A-Za-z0-9_])"

_NAMED_FOR_CONDA = re.compile(rb".*(?:conda|mamba|forge)[^/]*\Z", re.IGNORECASE | re.DOTALL)
_SHARED = re.compile(rb"/(?:[^/]+|usr/local|home/[^/]+)\Z", re.DOTALL)
"""Directories that hold many things: of the system, at the top, a user's home."""


def base_of(environment: bytes) -> bytes:
    """The base prefix of an environment at PREFIX/envs/NAME; empty for one elsewhere."""
    base, envs = posixpath.split(posixpath.dirname(environment))
    return base if envs == b"envs" and base != b"/" else b""


def is_named_for_conda(base: bytes) -> bool:
    """Whether a directory is by its name a base prefix (`miniconda3`, `mambaforge`)."""
    return _NAMED_FOR_CONDA.match(base) is not None


def follows(base: bytes) -> bytes:
    """A pattern for what follows the path of a base prefix where conda is meant.

    Nothing, or what every prefix has; but of a directory that holds much else as well
    (`/usr/local`, a user's home) only what is conda's and nobody else's.
    """
    if _SHARED.match(base) and not is_named_for_conda(base):
        return _below(_OWN_PLACES)
    return b"(?:" + _below(_TOP_PLACES) + rb"|(?!/+[A-Za-z0-9_.~+-])" + ENDS + b")"


def is_condas(base: bytes, path: bytes) -> bool:
    """Whether a path is conda's own place below a base prefix, or that itself."""
    return path.startswith(base) and re.match(follows(base), path[len(base) :]) is not None


def _below(places: Sequence[bytes]) -> bytes:
    either = b"|".join(places).replace(b"/", b"/+")
    return b"(?=/+(?:" + either + b")" + ENDS + b")"
