"""Checks the files that a target requests against the manifest."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from envsync.errors import AgentFailed
from envsync.transport.job import Item
from envsync.tree.entry import FILE, join, split
from envsync.tree.manifest import Manifest
from envsync.tree.steps import Sizes


def requested_files(manifest: Manifest, paths: Sequence[bytes]) -> Collection[Item]:
    """Return the files that a target requests, with their sizes in bytes.

    Raises `AgentFailed` if it requests a path that is not a file of the manifest, or one twice.
    """
    found = Sizes()
    for directory, group in itertools.groupby(paths, lambda path: split(path)[0]):
        files = [entry for entry in manifest.entries(directory) if entry.kind == FILE]
        sizes = {join(directory, entry.name): entry.size_bytes for entry in files}
        wanted = list(group)
        if not sizes.keys() >= set(wanted):
            raise AgentFailed("the target asked for a file that is not in the manifest")
        names = [split(path)[1] for path in wanted]
        found.add(directory, names, [sizes[path] for path in wanted])
    if len(set(paths)) != len(paths):
        raise AgentFailed("the target asked for the same file twice")
    return found
