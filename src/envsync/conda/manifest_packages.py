"""The packages that a manifest names, found without decoding the directories that name none."""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterator, Tuple

from envsync.conda import packages
from envsync.conda.metadata import SITE_PACKAGES
from envsync.tree.entry import join, split
from envsync.tree.listing import Listing, names
from envsync.tree.manifest import Manifest

_DIST_INFO = re.compile(SITE_PACKAGES + rb"/[^/]+\.dist-info\Z")


def package_paths(manifest: Manifest) -> Iterator[bytes]:
    """Yield the paths among which are those that name packages."""
    for directory, listing in _listings(manifest).items():
        for name in names(listing):
            yield join(directory, name)


def metadata_paths(manifest: Manifest) -> FrozenSet[bytes]:
    """Return the paths of conda's records and of pip's `.dist-info` directories."""
    recorded = names(manifest.directories.get(b"conda-meta", b""))
    conda = [join(b"conda-meta", name) for name in recorded if name.endswith(b".json")]
    return frozenset([*conda, *filter(_DIST_INFO.match, manifest.directories)])


def package_changes(before: Manifest, after: Manifest) -> Tuple[str, ...]:
    """Return the packages added, removed and changed, a line each."""
    if _listings(before) == _listings(after):
        return ()
    return packages.difference(
        packages.list_packages(package_paths(before)), packages.list_packages(package_paths(after))
    )


def _listings(manifest: Manifest) -> Dict[bytes, Listing]:
    return {
        directory: listing
        for directory, listing in manifest.directories.items()
        if directory == b"conda-meta" or split(directory)[1] == b"site-packages"
    }
