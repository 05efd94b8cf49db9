"""The few directories of an environment that are watched; every install changes one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from envsync.conda.site_packages import is_python


class DirectoryId(NamedTuple):
    """The identity of the directory at a path, which can be replaced by another one."""

    device: int
    inode: int


def watch_points(environment: str) -> dict[str, DirectoryId]:
    """Return the directories to watch that exist now, by path.

    conda writes into conda-meta, pip into a site-packages, both into bin. `lib` changes with
    another Python. The environment and its parent show that it appears, goes or is replaced.
    """
    found: dict[str, DirectoryId] = {}
    for path in (os.path.dirname(environment), *_candidates(os.path.realpath(environment))):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if os.path.isdir(path):
            found[path] = DirectoryId(status.st_dev, status.st_ino)
    return found


def site_packages(environment: str) -> Iterator[str]:
    """Yield the site-packages of each Python in the environment."""
    for library in ("lib", "lib64"):
        top = os.path.join(environment, library)
        if os.path.islink(top):
            continue
        for name in _names(top):
            if is_python(os.fsencode(name)):
                yield os.path.join(top, name, "site-packages")


def signature(paths: dict[str, DirectoryId]) -> tuple[tuple[str, int, int, int], ...]:
    """Return a value that changes when an entry is added to or removed from a directory."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append((path, status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def _candidates(environment: str) -> Iterator[str]:
    yield environment
    for name in ("conda-meta", "bin", "lib"):
        yield os.path.join(environment, name)
    for packages in site_packages(environment):
        yield os.path.dirname(packages)
        yield packages


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
