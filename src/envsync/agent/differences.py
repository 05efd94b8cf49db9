"""Two versions of an environment compared as a person thinks of them: packages first."""

from __future__ import annotations

import os
from typing import Callable, Optional, Tuple

from envsync.agent.messages import DifferenceFacts
from envsync.conda import packages
from envsync.conda.ownership import group_paths
from envsync.tree.difference import difference
from envsync.tree.manifest import Manifest

Read = Callable[[bytes], Optional[bytes]]


def describe(before: Manifest, after: Manifest, read: Read, paths_max: int) -> DifferenceFacts:
    """What `after` has that `before` has not, and the other way round.

    `read` gives files of the version that `after` describes.
    """
    found = difference(before, after)
    marked = sorted(
        [(path, "+") for path in found.added]
        + [(path, "-") for path in found.removed]
        + [(path, "~") for path in found.changed]
    )
    groups = group_paths(found.paths, (*after.paths(), *found.removed), read) if found else ()
    return DifferenceFacts(
        packages=package_changes(before, after) if found else (),
        groups=tuple(str(group) for group in groups),
        paths=tuple("%s %s" % (mark, os.fsdecode(path)) for path, mark in marked[:paths_max]),
        added=len(found.added),
        removed=len(found.removed),
        changed=len(found.changed),
    )


def package_changes(before: Manifest, after: Manifest) -> Tuple[str, ...]:
    """Packages added, removed and changed, a line each."""
    return packages.difference(
        packages.list_packages(before.paths()), packages.list_packages(after.paths())
    ).lines()
