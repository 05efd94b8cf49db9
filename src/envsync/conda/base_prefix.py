"""The base prefix that an environment belongs to, and what of it is conda's own.

A prefix can be a directory with much else in it (`/usr/local`, a user's home), so not all
that stands below one means conda.
"""

from __future__ import annotations

import posixpath

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
    rb"lib/python[0-9.]+t?/site-packages/(?:conda|xonsh/conda\.xsh)",
)

OWN = rb"/+(?:" + rb"|".join(place.replace(rb"/", rb"/+") for place in _OWN_PLACES) + rb")"
"""A pattern for what follows the base prefix where conda is meant; no name may go on behind it."""


def base_of(environment: bytes) -> bytes:
    """The base prefix of an environment at PREFIX/envs/NAME; empty for one elsewhere."""
    base, envs = posixpath.split(posixpath.dirname(environment))
    return base if envs == b"envs" and base != b"/" else b""
