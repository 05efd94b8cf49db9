"""The plan: what a target still needs, as a pure function.

`plan` compares the source's manifest with the staging tree and with what other trees of the target
hold. It reads nothing and changes nothing. Carrying out the result in the order of its fields turns
the staging tree into the source's.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, Optional, Protocol, Sequence, Set, Tuple

from envsync.tree.entry import DIRECTORY, FILE, SYMLINK, Entry, join
from envsync.tree.listing import decode, that_may_hold
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.steps import (
    Copies,
    Copy,
    Files,
    HardLink,
    Make,
    Plan,
    by_directory,
    copies_alike,
    packed,
)

STAGED = -1
"""The number that stands for the staging tree as a holding, once the transfer is done."""


class ContentPlaces(Protocol):
    """A tree of the target with the contents it is believed to hold.

    Whoever copies from it hashes what it copies.
    """

    def places(self, contents: Collection[bytes]) -> Mapping[bytes, Collection[bytes]]:
        """Return the paths of files in the tree that have one of these contents, by content."""
        ...


def plan(wanted: Manifest, staged: Manifest, holdings: Sequence[ContentPlaces] = ()) -> Plan:
    """Return the steps from `staged` to `wanted`, copying from `holdings` what they have.

    An earlier holding is preferred over a later one, and in one holding the same path over others.
    """
    work = _Work(wanted, staged, holdings)
    for directory in sorted(set(wanted.directories) | set(staged.directories)):
        if wanted.directories.get(directory) != staged.directories.get(directory):
            work.compare(directory)
    work.resolve_groups()
    return work.finish()


class _Work:
    """A plan in the making."""

    def __init__(
        self, wanted: Manifest, staged: Manifest, holdings: Sequence[ContentPlaces]
    ) -> None:
        self._wanted = wanted
        self._staged = staged
        self._holdings = holdings
        # This is usually the live tree, which has most of what is needed under the same path.
        first = holdings[0] if holdings else EMPTY
        self._first = first if isinstance(first, Manifest) else EMPTY
        self._copies: List[Copies] = []
        self._remove: List[Make] = []
        self._directories: List[Make] = []
        self._symlinks: List[Make] = []
        self._needed = Files()
        self._leaders: List[Make] = []
        self._contents: Set[int] = set()
        self._repeated: Set[int] = set()
        self._restamp: List[Make] = []
        self._links: List[HardLink] = []
        self._regroup: Set[bytes] = set()

    def compare(self, directory: bytes) -> None:
        wanted = {e.name: e for e in self._wanted.entries(directory)}
        staged = {e.name: e for e in self._staged.entries(directory)}
        start = directory + b"/" if directory else b""
        for name, old in staged.items():
            new = wanted.get(name)
            if new is None or not _stays(old, new):
                self._remove.append(Make(start + name, old))
            if old.link_group and (new is None or new.link_group != old.link_group):
                self._regroup.add(old.link_group)
        needed = [
            new
            for name, new in wanted.items()
            if self._is_needed(start + name, new, staged.get(name))
        ]
        if needed:
            self._need(directory, needed)

    def _is_needed(self, path: bytes, new: Entry, old: Optional[Entry]) -> bool:
        """Return whether `new` is a file of no link group that must be made; plan other steps."""
        if new == old:
            return False
        if new.link_group:
            self._regroup.add(new.link_group)
        if old is not None and _stays(old, new):
            if not new.link_group:
                self._restamp.append(Make(path, new))
            return False
        if new.kind == DIRECTORY:
            self._directories.append(Make(path, new))
        elif new.kind == SYMLINK:
            self._symlinks.append(Make(path, new))
        return new.kind == FILE and not new.link_group

    def _need(self, directory: bytes, files: Sequence[Entry]) -> None:
        """Add files that have to be made; what the first holding has at the same path is copied."""
        alike: Sequence[Entry] = ()
        listing = self._first.directories.get(directory)
        if listing == self._wanted.directories[directory]:
            alike, files = files, ()
        elif listing:
            found = {(e.name, e.content) for e in self._first.entries(directory) if e.kind == FILE}
            alike = [entry for entry in files if (entry.name, entry.content) in found]
            files = [entry for entry in files if (entry.name, entry.content) not in found]
        self._copies += copies_alike(0, directory, alike)
        self._needed.add(directory, files)
        for entry in files:
            # Only the hash is kept: two contents that collide cost some time and nothing else.
            mark = hash(entry.content)
            if mark in self._contents:
                self._repeated.add(mark)
            self._contents.add(mark)

    def resolve_groups(self) -> None:
        """Plan to make each hard-link group that is not already right, from its first name."""
        if not self._regroup:
            return
        wanted = _groups(self._wanted, self._regroup)
        staged = _groups(self._staged, self._regroup)
        removed = {make.path for make in self._remove}
        for group, members in wanted.items():
            before = staged.get(group, [])
            if before == members:
                continue
            for make in before:
                if make.path not in removed:
                    self._remove.append(make)
                    removed.add(make.path)
            # Anything else at a member's path does not stay, so it is in `_remove` already.
            self._leaders.append(members[0])
            self._links += [HardLink(make.path, members[0].path) for make in members[1:]]
        for directory, leaders in by_directory(sorted(self._leaders)):
            self._need(directory, leaders)

    def finish(self) -> Plan:
        copies, fetches, repeats = self._distribute()
        return Plan(
            remove=tuple(sorted(self._remove, key=lambda make: make.path, reverse=True)),
            directories=tuple(sorted(self._directories)),
            symlinks=tuple(self._symlinks),
            copies=(*self._copies, *packed(copies)),
            fetches=fetches,
            repeats=tuple(repeats),
            links=tuple(self._links),
            restamp=tuple(self._restamp),
        )

    def _distribute(self) -> Tuple[List[Copy], Files, List[Copy]]:
        """Decide for each needed file where its bytes come from."""
        places = self._places()
        copies: List[Copy] = []
        fetches = Files()
        repeats: List[Copy] = []
        fetched: Dict[bytes, bytes] = {}
        for directory, entries in self._needed.by_directory():
            here: List[Entry] = []
            for entry in entries:
                path = join(directory, entry.name)
                holder = self._holder(path, entry, places)
                if holder is not None:
                    copies.append(Copy(path, entry, *holder))
                elif entry.content in fetched:
                    repeats.append(Copy(path, entry, STAGED, fetched[entry.content]))
                else:
                    if hash(entry.content) in self._repeated:
                        fetched[entry.content] = path
                    here.append(entry)
            fetches.add(directory, here)
        return copies, fetches, repeats

    def _places(self) -> List[Mapping[bytes, Collection[bytes]]]:
        if not self._holdings:
            return []
        contents = {make.entry.content for make in self._needed}
        return [holding.places(contents) for holding in self._holdings]

    def _holder(
        self, path: bytes, entry: Entry, places: Sequence[Mapping[bytes, Collection[bytes]]]
    ) -> Optional[Tuple[int, bytes]]:
        for number, by_content in enumerate(places):
            paths = by_content.get(entry.content)
            if paths:
                return number, path if path in paths else min(paths)
        return None


def _stays(old: Entry, new: Entry) -> bool:
    """Return whether the staged path can remain, perhaps with another mode or mtime."""
    if old.kind != new.kind:
        return False
    if new.kind == DIRECTORY:
        return True
    if new.kind == SYMLINK:
        return old.content == new.content
    return old.content == new.content and old.link_group == new.link_group


def _groups(manifest: Manifest, which: Set[bytes]) -> Dict[bytes, List[Make]]:
    groups: Dict[bytes, List[Make]] = {}
    for directory, listing in that_may_hold(manifest.directories, which):
        for entry in decode(listing):
            if entry.link_group and entry.link_group in which:
                make = Make(join(directory, entry.name), entry)
                groups.setdefault(entry.link_group, []).append(make)
    return {group: sorted(members) for group, members in groups.items()}
