"""The few directories of an environment that are watched; every install changes one of them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from envsync.conda.metadata import is_python


class DirectoryId(NamedTuple):
    """The identity of the directory at a path, which can be replaced by another one."""

    device: int
    inode: int


def watch_points(environment: str) -> dict[str, DirectoryId]:
    """Return the directories to watch that exist now, by path.

    conda writes into conda-meta, pip into a site-packages, both into bin. `lib` changes with
    another Python. The environment and its parent show that it appears, goes or is replaced.
    """
    return existing(
        [os.path.dirname(environment), *watched_directories(os.path.realpath(environment))]
    )


def existing(paths: Iterable[str]) -> dict[str, DirectoryId]:
    """Return those of the paths that are directories now."""
    directories: dict[str, DirectoryId] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                directories[path] = DirectoryId(status.st_dev, status.st_ino)
    return directories


def site_packages(environment: str) -> Iterator[str]:
    """Yield the site-packages of each Python in the environment."""
    for library in ("lib", "lib64"):
        top = os.path.join(environment, library)
        if os.path.islink(top):
            continue
        for name in names_in(top):
            if is_python(os.fsencode(name)):
                yield os.path.join(top, name, "site-packages")


def signature(paths: dict[str, DirectoryId]) -> tuple[tuple[str, int, int, int], ...]:
    """Return a value that changes when an entry is added to or removed from a directory."""
    parts = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        parts.append((path, status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(parts)


def watched_directories(environment: str) -> Iterator[str]:
    """Yield the directories of an environment in which every install changes something."""
    yield environment
    for name in ("conda-meta", "bin", "lib"):
        yield os.path.join(environment, name)
    for packages in site_packages(environment):
        yield os.path.dirname(packages)
        yield packages


def names_in(directory: str) -> list[str]:
    """Return what is in a directory; nothing if it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
