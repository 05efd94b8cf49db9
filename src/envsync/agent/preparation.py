"""Whether a place can take a push at all: named refusals, found by looking."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Iterable, List, Tuple

from envsync.agent.facts import user_name
from envsync.agent.filesystem import ExchangeRefused, exchange, is_mount_point
from envsync.agent.layout import Layout
from envsync.agent.messages import Finding
from envsync.conda.platform_needs import cuda_package
from envsync.errors import PreflightRefused
from envsync.tree.manifest import Manifest

_PYTHON_DIRECTORY = re.compile(rb"lib/(python[0-9]+\.[0-9]+t?)\Z")


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


def require_exchange(places: Layout) -> None:
    """Raise `PreflightRefused` where two directories cannot be swapped in one step.

    Found by swapping two empty ones, before anything is sent.
    """
    one = os.path.join(places.state, b"probe-one")
    other = os.path.join(places.state, b"probe-other")
    try:
        for path in (one, other):
            os.makedirs(path, mode=0o700, exist_ok=True)
        exchange(one, other)
    except ExchangeRefused as error:
        raise PreflightRefused(
            "the filesystem there cannot swap two directories in one step",
            hint="use a prefix on a local filesystem (ext4, xfs, btrfs, tmpfs)",
        ) from error
    finally:
        for path in (one, other):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def user_site_findings(directories: Iterable[bytes], home: str) -> Tuple[Finding, ...]:
    """Warn of a `~/.local` whose packages this user's Python would find before the environment's.

    `directories` are those of the environment, which tell its Python's version.
    """
    found: List[Finding] = []
    for directory in directories:
        match = _PYTHON_DIRECTORY.match(directory)
        if match is None or not home:
            continue
        site = os.path.join(home, ".local", "lib", match.group(1).decode(), "site-packages")
        if os.path.isdir(site) and os.listdir(site):
            message = "%s there comes before the environment's own packages" % site
            found.append(Finding("user-site", message))
    return tuple(found)


def cuda_findings(wanted: Manifest) -> Tuple[Finding, ...]:
    """Warn where the environment has CUDA packages and this server no NVIDIA driver."""
    if os.path.exists("/proc/driver/nvidia/version"):
        return ()
    places = [path for path in wanted.directories if path.endswith(b"/site-packages")]
    names = [entry.name for place in (b"conda-meta", *places) for entry in wanted.entries(place)]
    package = cuda_package(names)
    if package is None:
        return ()
    message = "it needs CUDA (%s), and no NVIDIA driver is loaded there" % os.fsdecode(package)
    return (Finding("cuda", message),)


def existing_parent(path: bytes) -> bytes:
    """The path itself, or the nearest directory above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
