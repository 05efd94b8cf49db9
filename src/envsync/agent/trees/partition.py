"""Partitions a tree among processes that search it at once."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Tuple

from envsync.agent.trees.stat_rows import row_count
from envsync.tree.entry import split

PARTS = 4
ENTRIES_MIN = 20_000
"""One process searches a smaller tree before others could even start."""

_PIECES_PER_PART = 8
"""Pieces this small can be combined into parts of about equal size."""


class Partition(NamedTuple):
    """A tree divided into `parts` of about equal size, and the `upper` directories above them.

    The directories of `parts` are searched with all that is below them, those of `upper` without
    their subdirectories. If there are no parts, one process searches the whole tree.
    """

    parts: Tuple[Tuple[bytes, ...], ...] = ()
    upper: Tuple[bytes, ...] = ()


def partition(directories: Mapping[bytes, bytes]) -> Partition:
    """Return a partition of the tree with these packed rows."""
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
    """Return, by directory, the number of entries in and below it, and its subdirectories."""
    sizes = {path: row_count(rows) for path, rows in directories.items()}
    below: Dict[bytes, List[bytes]] = {}
    # Longest first, because the paths below a directory are longer than its own.
    for path in sorted(sizes, key=len, reverse=True):
        if path:
            parent = split(path)[0]
            sizes[parent] += sizes[path]
            below.setdefault(parent, []).append(path)
    return sizes, below


def _dealt(pieces: List[bytes], sizes: Mapping[bytes, int]) -> Tuple[Tuple[bytes, ...], ...]:
    """Combine pieces into about equal parts: the largest first, each added to the smallest part."""
    parts: List[List[bytes]] = [[] for _ in range(PARTS)]
    held = [0] * PARTS
    for piece in sorted(pieces, key=lambda path: sizes[path], reverse=True):
        smallest = held.index(min(held))
        parts[smallest].append(piece)
        held[smallest] += sizes[piece]
    return tuple(tuple(part) for part in parts if part)
