"""Compares two versions of an environment for people: packages first."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from envsync.agent.wire.messages import DifferenceFacts
from envsync.conda import packages
from envsync.conda.ownership import group_paths
from envsync.tree.difference import Difference, difference
from envsync.tree.entry import join, split
from envsync.tree.listing import Listing, names
from envsync.tree.manifest import Manifest

Read = Callable[[bytes], Optional[bytes]]


def describe(
    before: Manifest,
    after: Manifest,
    read: Read,
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

    found = _without_parents(difference(before, after))
    marked = sorted(
        [(path, "+") for path in found.added]
        + [(path, "-") for path in found.removed]
        + [(path, "~") for path in found.changed]
    )
    groups = group_paths(found.paths, package_paths(after), read_record, found.removed)
    return DifferenceFacts(
        packages=package_changes(before, after) if found else (),
        groups=tuple(str(group) for group in groups),
        paths=tuple(f"{mark} {os.fsdecode(path)}" for path, mark in marked[:paths_max]),
        added=len(found.added),
        removed=len(found.removed),
        changed=len(found.changed),
        unread=tuple(unread),
    )


def _without_parents(found: Difference) -> Difference:
    """Leave out directories added or removed with something in them: they tell nothing more."""
    parents = {split(path)[0] for path in found.paths}
    return found._replace(
        added=tuple(path for path in found.added if path not in parents),
        removed=tuple(path for path in found.removed if path not in parents),
    )


def package_changes(before: Manifest, after: Manifest) -> Tuple[str, ...]:
    """Return the packages added, removed and changed, a line each."""
    if _listings_of_packages(before) == _listings_of_packages(after):
        return ()
    return packages.difference(
        packages.list_packages(package_paths(before)), packages.list_packages(package_paths(after))
    ).lines()


def package_paths(manifest: Manifest) -> Iterator[bytes]:
    """Yield the paths that name packages, without decoding the other directories."""
    for directory, listing in _listings_of_packages(manifest).items():
        for name in names(listing):
            yield join(directory, name)


def _listings_of_packages(manifest: Manifest) -> Dict[bytes, Listing]:
    return {
        directory: listing
        for directory, listing in manifest.directories.items()
        if directory == b"conda-meta" or split(directory)[1] == b"site-packages"
    }
