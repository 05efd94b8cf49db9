"""The base prefix of an environment, and which paths below it are conda's own.

A prefix can be a directory that holds much else (`/usr/local`, a user's home), so not every
path below one belongs to conda.
"""

from __future__ import annotations

import posixpath
import re
from typing import Sequence

from envsync.conda.metadata import SITE_PACKAGES

# Paths that conda, mamba and micromamba write into environments or have users write: the
# package cache (in records), other environments, commands (in histories), activation scripts.
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

# The top-level names that any conda prefix may have.
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

# The path component ends here: no further characters of a name follow.
ENDS = rb"(?![A-Za-z0-9_]|[.+~-]+[A-Za-z0-9_])"

_NAMED_FOR_CONDA = re.compile(rb".*(?:conda|mamba|forge)[^/]*\Z", re.IGNORECASE | re.DOTALL)
_SHARED = re.compile(rb"/(?:[^/]+|usr/local|home/[^/]+)\Z", re.DOTALL)
"""Directories that hold many things: those at the root, `/usr/local`, users' homes."""


def base_of(environment: bytes) -> bytes:
    """Return the base prefix of an environment at PREFIX/envs/NAME; empty if it is elsewhere."""
    base, envs = posixpath.split(posixpath.dirname(environment))
    return base if envs == b"envs" and base != b"/" else b""


def is_named_for_conda(base: bytes) -> bool:
    """Return whether a directory's name says that it is a prefix (`miniconda3`, `mambaforge`)."""
    return _NAMED_FOR_CONDA.match(base) is not None


def follows(base: bytes) -> bytes:
    """Return a pattern for what follows the path of a base prefix where conda is meant.

    It matches the end of the path, or a name that prefixes have at their top. For a directory
    that holds much else (`/usr/local`, a user's home) it matches only names that are conda's alone.
    """
    if _SHARED.match(base) and not is_named_for_conda(base):
        return _below(_OWN_PLACES)
    return b"(?:" + _below(_TOP_PLACES) + rb"|(?!/+[A-Za-z0-9_.~+-])" + ENDS + b")"


def is_condas(base: bytes, path: bytes) -> bool:
    """Return whether conda is meant by a path, the base prefix or one below it (see `follows`)."""
    return path.startswith(base) and re.match(follows(base), path[len(base) :]) is not None


def _below(places: Sequence[bytes]) -> bytes:
    either = b"|".join(places).replace(b"/", b"/+")
    return b"(?=/+(?:" + either + b")" + ENDS + b")"
