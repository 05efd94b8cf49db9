"""Applies changes to a snapshot's entries: the manifest, revision and totals that result."""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, NamedTuple, Optional, Set, Tuple

from envsync.agent.trees.snapshot import Snapshot
from envsync.tree import listing as listings
from envsync.tree.entry import FILE, Entry, join, split
from envsync.tree.listing import Listing
from envsync.tree.manifest import Manifest, Totals
from envsync.tree.revision import CACHE_DIRECTORY, combine, directory_digest, source_of


class Changed(NamedTuple):
    """A tree after its changes; `paths` are the files that were replaced."""

    manifest: Manifest
    revision: str
    totals: Totals
    paths: Set[bytes]


class ChangedTree:
    """Changes to a snapshot's entries, collected one by one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known = snapshot.known()
        self._changed: Dict[bytes, Dict[bytes, Optional[Entry]]] = {}

    @property
    def directories(self) -> Set[bytes]:
        """The directories in which an entry was changed."""
        return set(self._changed)

    def change(self, path: bytes, entry: Optional[Entry]) -> None:
        """Replace the entry at a path, or leave it out if `entry` is None."""
        directory, name = split(path)
        self._changed.setdefault(directory, {})[name] = entry

    def leave_out_compiled(self) -> int:
        """Leave out the compiled files of all sources that were changed; return how many.

        They would be stale, or worse: if the new path is as long as the old one, the source's
        size and mtime are unchanged, and Python would go on using the old path.
        """
        count = 0
        for directory, named in list(self._changed.items()):
            cached = join(directory, CACHE_DIRECTORY)
            if cached not in self._known:
                continue
            for entry in listings.decode(self._known[cached].listing):
                if source_of(entry.name) in named and entry.kind == FILE:
                    self.change(join(cached, entry.name), None)
                    count += 1
        return count

    def result(self) -> Changed:
        """Return the whole tree with its changes."""
        directories: Dict[bytes, Listing] = {
            path: known.listing for path, known in self._known.items()
        }
        digests = {path: known.digest for path, known in self._known.items()}
        entries, files, size_bytes = self._snapshot.totals
        paths: Set[bytes] = set()
        for directory, named in self._changed.items():
            old = listings.decode(directories[directory])
            new = _with(old, named)
            directories[directory] = listings.encode(new)
            entries += len(new) - len(old)
            files += sum(entry.kind == FILE for entry in new)
            files -= sum(entry.kind == FILE for entry in old)
            size_bytes += _content_bytes(directory, new) - _content_bytes(directory, old)
            paths.update(
                join(directory, name)
                for name, entry in named.items()
                if entry is not None and entry.kind == FILE
            )
        for directory in self._changed:
            digests[directory] = directory_digest(directories, directory)
        scanned = self._snapshot.scan
        manifest = Manifest(directories, scanned.mode, scanned.mtime_ns)
        return Changed(manifest, combine(digests), Totals(entries, files, size_bytes), paths)


def _with(entries: Iterable[Entry], named: Mapping[bytes, Optional[Entry]]) -> Tuple[Entry, ...]:
    replaced = (named.get(entry.name, entry) for entry in entries)
    return tuple(entry for entry in replaced if entry is not None)


def _content_bytes(directory: bytes, entries: Iterable[Entry]) -> int:
    """Return the size of all files as the totals count it: hard links only at the first name."""
    return sum(
        entry.size_bytes
        for entry in entries
        if entry.kind == FILE
        and entry.link_group in (b"", listings.link_group(join(directory, entry.name)))
    )
