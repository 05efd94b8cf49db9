"""Selects the paths of a tree that may be signs of an installer, for `conda.busy`."""

from __future__ import annotations

from typing import Iterator, Mapping, Tuple

from envsync.agent.trees.stat_rows import row_names, unpack
from envsync.conda import busy
from envsync.tree.entry import join

BusyCandidates = Tuple[Tuple[bytes, int], ...]
"""Relative paths, each with the newer of its mtime and ctime in nanoseconds."""

_HISTORY_DIRECTORY = busy.HISTORY.rpartition(b"/")[0]


def busy_candidates(directories: Mapping[bytes, bytes]) -> BusyCandidates:
    """Return the paths that `busy.signs` has to know of, given each directory's packed rows."""
    return tuple(_found(directories))


def _found(directories: Mapping[bytes, bytes]) -> Iterator[Tuple[bytes, int]]:
    for directory, packed in directories.items():
        names = row_names(packed)
        is_told = b"~" in directory or b".condatmp" in directory or directory == _HISTORY_DIRECTORY
        if is_told or b"~" in names or b".condatmp" in names:
            for row in unpack(packed):
                path = join(directory, row.name)
                if busy.is_sign(path):
                    yield path, max(row.mtime_ns, row.ctime_ns)
