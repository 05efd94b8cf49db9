"""The difference between two manifests, as paths."""

from __future__ import annotations

import hashlib
import itertools
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from envsync.tree.entry import FILE, Entry, join, split
from envsync.tree.listing import names
from envsync.tree.manifest import Manifest
from envsync.tree.revision import CACHE_DIRECTORY, counted, source_of


class Difference(NamedTuple):
    """Sorted paths: only in the second manifest, only in the first, in both but not the same."""

    added: Tuple[bytes, ...]
    removed: Tuple[bytes, ...]
    changed: Tuple[bytes, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def paths(self) -> Tuple[bytes, ...]:
        return tuple(sorted((*self.added, *self.removed, *self.changed)))


def difference(before: Manifest, after: Manifest) -> Difference:
    """Return the differences that make another revision: kind, execute bit, content, link target.

    The result is empty exactly where the two revisions are equal.
    """
    added: List[bytes] = []
    removed: List[bytes] = []
    changed: List[bytes] = []
    for directory in sorted(set(before.directories) | set(after.directories)):
        if _same_rows(before, after, directory):
            continue
        old, new = _counted(before, directory), _counted(after, directory)
        added += [join(directory, name) for name in new if name not in old]
        removed += [join(directory, name) for name in old if name not in new]
        changed += [
            join(directory, name)
            for name in new
            if name in old and _identity(old[name]) != _identity(new[name])
        ]
    return Difference(
        _without_compiled(added, of=removed),
        _without_compiled(removed, of=added),
        tuple(sorted(changed)),
    )


def removed_files(before: Manifest, after: Manifest) -> int:
    """Return the number of files of `before` whose paths `after` lacks.

    Compiled files whose source is in `after` are left out: Python makes them anew.
    """
    count = 0
    for directory, listing in before.directories.items():
        new = after.directories.get(directory, b"")
        gone = set() if new == listing else set(names(listing)).difference(names(new))
        if gone and split(directory)[1] == CACHE_DIRECTORY:
            sources = set(names(after.directories.get(split(directory)[0], b"")))
            gone = {name for name in gone if source_of(name) not in sources}
        if gone:
            count += sum([e.kind == FILE and e.name in gone for e in before.entries(directory)])
    return count


def _without_compiled(paths: Sequence[bytes], *, of: Sequence[bytes]) -> Tuple[bytes, ...]:
    """Return `paths`, sorted, without compiled files whose source is in `of`.

    A compiled file starts to count when its source is removed, but it was there before.
    """
    sources = set(of)
    return tuple(sorted(path for path in paths if _source(path) not in sources))


def _source(path: bytes) -> Optional[bytes]:
    directory, name = split(path)
    parent, cache = split(directory)
    source = source_of(name) if cache == CACHE_DIRECTORY else None
    return None if source is None else join(parent, source)


def digest_of_changes(after: Manifest, found: Difference) -> str:
    """Return a digest of what the differing paths have become in `after`.

    It is equal where the same change was made to two versions.
    """
    state = hashlib.sha256()
    for directory, paths in itertools.groupby(found.paths, lambda path: split(path)[0]):
        entries = _counted(after, directory)
        for path in paths:
            entry = entries.get(split(path)[1])
            state.update(repr((path, None if entry is None else _identity(entry))).encode())
    return state.hexdigest()


def _same_rows(before: Manifest, after: Manifest, directory: bytes) -> bool:
    """Return whether a directory cannot differ: same bytes, and the same sources beside it."""
    if before.directories.get(directory) != after.directories.get(directory):
        return False
    parent, name = split(directory)
    if name != CACHE_DIRECTORY:
        return True
    return before.directories.get(parent) == after.directories.get(parent)


def _counted(manifest: Manifest, directory: bytes) -> Dict[bytes, Entry]:
    entries = counted(manifest.directories, directory, manifest.entries(directory))
    return {entry.name: entry for entry in entries}


def _identity(entry: Entry) -> Tuple[int, bool, bytes]:
    return entry.kind, entry.is_executable, entry.content
