"""The few directories of an environment that are watched: every install changes one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from envsync.conda.site_packages import is_python


class DirectoryId(NamedTuple):
    """Which directory stands at a path: another one may be put there."""

    device: int
    inode: int


def watch_points(environment: str) -> dict[str, DirectoryId]:
    """Each directory that is there now, by its path.

    conda writes into conda-meta, pip into a site-packages, both into bin; `lib` tells of
    another Python, and the two above tell of an environment that comes, goes or is replaced.
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
    """Every site-packages directory, of each Python that is installed there."""
    for library in ("lib", "lib64"):
        top = os.path.join(environment, library)
        if os.path.islink(top):
            continue
        for name in _names(top):
            if is_python(os.fsencode(name)):
                yield os.path.join(top, name, "site-packages")


def signature(paths: dict[str, DirectoryId]) -> tuple[tuple[str, int, int, int], ...]:
    """What differs once something was added to or taken from one of the directories."""
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
