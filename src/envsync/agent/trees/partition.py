"""Partitions a tree among processes that scan or search it at once."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Tuple

from envsync.agent.trees.stat_rows import row_count
from envsync.tree.entry import split

PARTS = 4
ENTRIES_MIN = 20_000
"""A smaller tree is looked through by one sooner than others are there."""

_PIECES_PER_PART = 8
"""The pieces are so small that parts of them come out about equal."""


class Partition(NamedTuple):
    """Directories that are searched with all that is below them, in equal parts, and the
    `upper` ones above these, each for itself alone. Without parts, one process does it all."""

    parts: Tuple[Tuple[bytes, ...], ...] = ()
    upper: Tuple[bytes, ...] = ()


def partition(directories: Mapping[bytes, bytes]) -> Partition:
    """A partition of the tree with these packed rows."""
    sizes, below = _sizes(directories)
    if sizes[b""] < ENTRIES_MIN:
        return Partition()
    limit = sizes[b""] // (PARTS * _PIECES_PER_PART)
    pieces: List[bytes] = []
    upper: List[bytes] = []
    pending = [b""]
    while pending:
        path = pending.pop()
        if sizes[path] <= limit or not below.get(path):
            pieces.append(path)
        else:
            upper.append(path)
            pending += below[path]
    return Partition(_dealt(pieces, sizes), tuple(upper))


def _sizes(directories: Mapping[bytes, bytes]) -> Tuple[Dict[bytes, int], Dict[bytes, List[bytes]]]:
    """How many entries each directory holds with all below it, and the directories in it."""
    sizes = {path: row_count(rows) for path, rows in directories.items()}
    below: Dict[bytes, List[bytes]] = {}
    # What is below a directory has a longer path.
    for path in sorted(sizes, key=len, reverse=True):
        if path:
            parent = split(path)[0]
            sizes[parent] += sizes[path]
            below.setdefault(parent, []).append(path)
    return sizes, below


def _dealt(pieces: List[bytes], sizes: Mapping[bytes, int]) -> Tuple[Tuple[bytes, ...], ...]:
    """The pieces in parts of about equal size: the largest first, each to the smallest part."""
    parts: List[List[bytes]] = [[] for _ in range(PARTS)]
    held = [0] * PARTS
    for piece in sorted(pieces, key=lambda path: sizes[path], reverse=True):
        smallest = held.index(min(held))
        parts[smallest].append(piece)
        held[smallest] += sizes[piece]
    return tuple(tuple(part) for part in parts if part)
