"""Applies changes to a snapshot's entries: the manifest, revision and totals that result."""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, NamedTuple, Optional, Set, Tuple

from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import TotalsFacts
from envsync.tree import listing as listings
from envsync.tree.entry import FILE, Entry, join, split
from envsync.tree.listing import Listing
from envsync.tree.manifest import Manifest
from envsync.tree.revision import CACHE_DIRECTORY, combine, directory_digest, source_of


class Changed(NamedTuple):
    """What a tree has become; `paths` are the files that are other ones."""

    manifest: Manifest
    revision: str
    totals: TotalsFacts
    paths: Set[bytes]


class ChangedTree:
    """Changes of a snapshot's entries, collected one by one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known = snapshot.known()
        self._changed: Dict[bytes, Dict[bytes, Optional[Entry]]] = {}

    @property
    def directories(self) -> Set[bytes]:
        """Those in which something is another one."""
        return set(self._changed)

    def change(self, path: bytes, entry: Optional[Entry]) -> None:
        """Have another entry at a path; with None it is left out."""
        directory, name = split(path)
        self._changed.setdefault(directory, {})[name] = entry

    def leave_out_compiled(self) -> None:
        """What was compiled from a file that is another one there would be stale, or worse.

        With a path of the same length, size and time would be as they were, and Python would
        go on with the old path.
        """
        for directory, named in list(self._changed.items()):
            cached = join(directory, CACHE_DIRECTORY)
            known = self._known.get(cached)
            for entry in listings.decode(known.listing) if known else ():
                source = source_of(entry.name)
                if source in named and entry.kind == FILE:
                    self.change(join(cached, entry.name), None)

    def result(self) -> Changed:
        """The whole tree with its changes."""
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
        return Changed(manifest, combine(digests), TotalsFacts(entries, files, size_bytes), paths)


def _with(entries: Iterable[Entry], named: Mapping[bytes, Optional[Entry]]) -> Tuple[Entry, ...]:
    found = (named.get(entry.name, entry) for entry in entries)
    return tuple(entry for entry in found if entry is not None)


def _content_bytes(directory: bytes, entries: Iterable[Entry]) -> int:
    """As the totals count them: a file with several names under the first of them."""
    return sum(
        entry.size_bytes
        for entry in entries
        if entry.kind == FILE
        and entry.link_group in (b"", listings.link_group(join(directory, entry.name)))
    )
