"""Whether a place can take a push at all: named refusals, found by looking."""

from __future__ import annotations

import os
from typing import List, Tuple

from envsync.agent.facts import user_name
from envsync.agent.filesystem import is_mount_point
from envsync.agent.layout import Layout
from envsync.agent.messages import Finding
from envsync.errors import PreflightRefused


def require_prefix(prefix: str) -> None:
    """Raise `PreflightRefused` where the prefix is no directory."""
    if not os.path.isabs(prefix):
        raise PreflightRefused("the prefix is not an absolute path: %r" % prefix)
    if not os.path.isdir(prefix):
        raise PreflightRefused(
            "there is no conda prefix at %s" % prefix,
            hint="install conda there, or set `prefix:` of that server in the inventory",
        )


def place_findings(prefix: str, places: Layout) -> Tuple[Finding, ...]:
    """What is wrong with the place where the environment goes; each forbids a push."""
    found: List[Finding] = []
    parent = existing_parent(places.state)
    if not os.access(parent, os.W_OK | os.X_OK):
        found.append(Finding("read-only", "%s is not writable" % os.fsdecode(parent), True))
    if os.path.isdir(places.live):
        if is_mount_point(places.live):
            message = "%s is a mount point and cannot be switched" % os.fsdecode(places.live)
            found.append(Finding("mount-point", message, True))
        owner = os.stat(places.live).st_uid
        if owner != os.geteuid():
            message = "the environment there belongs to user %d, not to %s" % (owner, user_name())
            found.append(Finding("foreign-owner", message, True))
    elif os.path.lexists(places.live):
        message = "%s is there and is no directory" % os.fsdecode(places.live)
        found.append(Finding("not-a-directory", message, True))
    if not os.path.isdir(os.path.join(os.fsencode(prefix), b"conda-meta")):
        found.append(Finding("no-conda", "%s has no conda-meta: no conda there" % prefix))
    return tuple(found)


def existing_parent(path: bytes) -> bytes:
    """The path itself, or the nearest directory above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
