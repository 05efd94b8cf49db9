"""A prefix that conda is to come to: whether there is one, and what is in its way."""

from __future__ import annotations

import os
from typing import List, Optional

from envsync.agent.places.layout import Layout
from envsync.agent.wire.messages import Finding, listed

OWN = ("envs", "pkgs", ".envsync", "lost+found")
"""Of a prefix: every server has its own. No part of conda's base, and in nobody's way."""

_SHOWN = 5
_OF_CONDA = (os.path.join(b"conda-meta", b"history"), os.path.join(b"bin", b"python"))


def has_conda(prefix: bytes) -> bool:
    """Whether a conda stands there: one that may be in use."""
    return any(os.path.lexists(os.path.join(prefix, path)) for path in _OF_CONDA)


def in_the_way(prefix: bytes) -> List[str]:
    """What is there that is no conda, and neither what every prefix has of its own."""
    return sorted(os.fsdecode(name) for name in os.listdir(prefix) if os.fsdecode(name) not in OWN)


def takes_conda(places: Layout) -> bool:
    """Whether conda can be laid into the directory that is there."""
    prefix = places.live
    return os.path.isdir(prefix) and not has_conda(prefix) and not in_the_way(prefix)


def way_finding(places: Layout) -> Optional[Finding]:
    """What forbids that conda comes to the directory that is there."""
    where = os.fsdecode(places.live)
    try:
        names = in_the_way(places.live)
    except PermissionError:
        return Finding("read-only", "%s cannot be looked into" % where, True)
    if names:
        message = "%s has no conda, but something else: %s" % (where, listed(names, _SHOWN))
        return Finding("in-the-way", message, True)
    if not os.access(places.live, os.W_OK | os.X_OK):
        return Finding("read-only", "%s is not writable" % where, True)
    return None
