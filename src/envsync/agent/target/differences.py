"""Compares two versions of an environment for people: packages first."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import List, Mapping, Optional

from envsync.agent.wire.target_operations import DifferenceFacts
from envsync.conda.manifest_packages import package_changes, package_paths
from envsync.conda.ownership import group_paths
from envsync.conda.packages import ReadFile
from envsync.tree.difference import Difference, difference
from envsync.tree.entry import split
from envsync.tree.manifest import Manifest


def describe(
    before: Manifest,
    after: Manifest,
    read: ReadFile,
    paths_max: int,
    records: Mapping[str, str] = MappingProxyType({}),
) -> DifferenceFacts:
    """Describe how `after` differs from `before`, with `paths_max` paths at most.

    `read` returns the contents of files of the version that `after` describes, `records` are those
    of packages that it no longer has, by their path.
    """
    unread: List[str] = []

    def read_record(path: bytes) -> Optional[bytes]:
        content, name = read(path), os.fsdecode(path)
        if content is None and name in records:
            content = records[name].encode("utf-8", "surrogateescape")
        if content is None:
            unread.append(name)
        return content

    differing = _without_parents(difference(before, after))
    marked = sorted(
        [(path, "+") for path in differing.added]
        + [(path, "-") for path in differing.removed]
        + [(path, "~") for path in differing.changed]
    )
    groups = group_paths(differing.paths, package_paths(after), read_record, differing.removed)
    return DifferenceFacts(
        packages=package_changes(before, after) if differing else (),
        groups=tuple(str(group) for group in groups),
        paths=tuple(f"{mark} {os.fsdecode(path)}" for path, mark in marked[:paths_max]),
        added=len(differing.added),
        removed=len(differing.removed),
        changed=len(differing.changed),
        unread=tuple(unread),
    )


def _without_parents(differing: Difference) -> Difference:
    """Leave out directories added or removed with something in them: they tell nothing more."""
    parents = {split(path)[0] for path in differing.paths}
    return differing._replace(
        added=tuple(path for path in differing.added if path not in parents),
        removed=tuple(path for path in differing.removed if path not in parents),
    )
