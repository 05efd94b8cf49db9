"""A plan and its steps.

Files stay packed until it is their turn: hundreds of thousands of objects would take 100 MB.
"""

from __future__ import annotations

import itertools
from array import array
from typing import Collection, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

from envsync.tree import listing as listings
from envsync.tree.entry import Entry, join, split
from envsync.tree.listing import Listing

COPIES_MAX = 200
"""The most files in one `Copies`, so that a share of the work never takes long."""


class Make(NamedTuple):
    """A path, and the entry that it becomes; or, in `Plan.remove`, the one that is removed."""

    path: bytes
    entry: Entry


class Copy(NamedTuple):
    """One file whose bytes are on the target: at path `source` of holding number `holding`."""

    path: bytes
    entry: Entry
    holding: int
    source: bytes


class HardLink(NamedTuple):
    """A further name, `path`, of the file `leader` in the same tree."""

    path: bytes
    leader: bytes


class Copies(NamedTuple):
    """Several `Copy` of files in one directory whose bytes one holding has, packed.

    `sources` are their paths in the holding; empty where those are the same.
    """

    holding: int
    directory: bytes
    listing: Listing
    sources: Tuple[bytes, ...]
    files: int
    size_bytes: int

    def each(self) -> Iterator[Copy]:
        entries = listings.decode(self.listing)
        paths = [join(self.directory, entry.name) for entry in entries]
        for path, entry, source in zip(paths, entries, self.sources or paths):
            yield Copy(path, entry, self.holding, source)


def copies_alike(holding: int, directory: bytes, entries: Sequence[Entry]) -> Iterator[Copies]:
    """Yield copies of files that a holding has under the same paths."""
    for at in range(0, len(entries), COPIES_MAX):
        yield _copies(holding, directory, entries[at : at + COPIES_MAX], ())


def packed(copies: Iterable[Copy]) -> Iterator[Copies]:
    """Pack `copies`: successive ones with the same holding and directory become one."""
    for (holding, directory), group in itertools.groupby(copies, _from_and_to):
        alike = list(group)
        for at in range(0, len(alike), COPIES_MAX):
            some = alike[at : at + COPIES_MAX]
            sources = tuple([copy.source for copy in some])
            yield _copies(holding, directory, [copy.entry for copy in some], sources)


def _from_and_to(copy: Copy) -> Tuple[int, bytes]:
    return copy.holding, split(copy.path)[0]


def _copies(
    holding: int, directory: bytes, entries: Sequence[Entry], sources: Tuple[bytes, ...]
) -> Copies:
    size_bytes = sum([entry.size_bytes for entry in entries])
    listing = listings.encode(entries)
    return Copies(holding, directory, listing, sources, len(entries), size_bytes)


class Files(Collection[Make]):
    """A packed collection of files to make (`Make`), in the order in which they were added."""

    def __init__(self, files: Iterable[Make] = ()) -> None:
        self._parts: List[Tuple[bytes, Listing, int]] = []
        self._count = 0
        self.size_bytes = 0
        for directory, entries in by_directory(files):
            self.add(directory, entries)

    def add(self, directory: bytes, entries: Sequence[Entry]) -> None:
        """Add files of one directory."""
        if entries:
            self._parts.append((directory, listings.encode(entries), len(entries)))
            self._count += len(entries)
            self.size_bytes += sum([entry.size_bytes for entry in entries])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Make]:
        for directory, entries in self.by_directory():
            start = directory + b"/" if directory else b""
            for entry in entries:
                yield Make(start + entry.name, entry)

    def by_directory(self) -> Iterator[Tuple[bytes, Sequence[Entry]]]:
        for directory, listing, _ in self._parts:
            yield directory, listings.decode(listing)

    def parts(self) -> Sequence[Tuple[bytes, Listing, int]]:
        """Return each directory with some files and their number, as often as some were added."""
        return self._parts

    def paths(self) -> Iterator[bytes]:
        for directory, listing, _ in self._parts:
            start = directory + b"/" if directory else b""
            for name in listings.names(listing):
                yield start + name

    def __contains__(self, make: object) -> bool:
        return any(make == other for other in self)

    def __add__(self, more: Iterable[Make]) -> Files:
        files = Files(more)
        files._parts = self._parts + files._parts
        files._count += self._count
        files.size_bytes += self.size_bytes
        return files

    def directories(self) -> Set[bytes]:
        return {directory for directory, _, _ in self._parts}


class Sizes(Collection[Tuple[bytes, int]]):
    """File paths with their sizes in bytes, in the order in which they were added."""

    def __init__(self) -> None:
        self._parts: List[Tuple[bytes, bytes, array[int]]] = []
        self._count = 0

    def add(self, directory: bytes, names: Sequence[bytes], sizes: Sequence[int]) -> None:
        """Add files of one directory."""
        if names:
            self._parts.append((directory, b"\0".join(names), array("Q", sizes)))
            self._count += len(names)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Tuple[bytes, int]]:
        for directory, names, sizes in self._parts:
            start = directory + b"/" if directory else b""
            for name, size_bytes in zip(names.split(b"\0"), sizes):
                yield start + name, size_bytes

    def __contains__(self, item: object) -> bool:
        return any(item == other for other in self)


def by_directory(files: Iterable[Make]) -> Iterator[Tuple[bytes, List[Entry]]]:
    """Group successive files of the same directory."""
    for directory, group in itertools.groupby(files, lambda make: split(make.path)[0]):
        yield directory, [make.entry for make in group]


class Plan(NamedTuple):
    """Steps to carry out in this order; paths are relative to the tree's top.

    `remove` (children first), `directories` (parents first), `symlinks`, `copies` from holdings,
    `fetches` from the source, `repeats` (copies of what was just fetched), `links`, then `restamp`
    for mode and mtime of what is already there.
    """

    remove: Tuple[Make, ...]
    directories: Tuple[Make, ...]
    symlinks: Tuple[Make, ...]
    copies: Tuple[Copies, ...]
    fetches: Files
    repeats: Tuple[Copy, ...]
    links: Tuple[HardLink, ...]
    restamp: Tuple[Make, ...]

    def touched_directories(self) -> Set[bytes]:
        """Return the directories in which the plan makes or removes something."""
        makes = (self.remove, self.directories, self.symlinks)
        touched = {split(make.path)[0] for group in makes for make in group}
        touched |= self.fetches.directories()
        touched.update(copies.directory for copies in self.copies)
        touched.update(split(copy.path)[0] for copy in self.repeats)
        touched.update(split(link.path)[0] for link in self.links)
        return touched

    def fetch_bytes(self) -> int:
        return self.fetches.size_bytes

    def copy_files(self) -> int:
        return sum(copies.files for copies in self.copies) + len(self.repeats)

    def copy_bytes(self) -> int:
        repeated_bytes = sum(copy.entry.size_bytes for copy in self.repeats)
        return sum(copies.size_bytes for copies in self.copies) + repeated_bytes

    def new_bytes(self) -> int:
        """Return the bytes of the files that the plan makes; what it removes is not deducted."""
        return self.fetch_bytes() + self.copy_bytes()

    def new_inodes(self) -> int:
        inodes = len(self.directories) + len(self.symlinks) + len(self.fetches)
        return inodes + self.copy_files()
