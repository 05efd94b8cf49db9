"""What a target still needs: from values to a value.

`plan` compares the source's manifest with what stands in the staging tree and with what
other trees of the target hold. It reads nothing and changes nothing; carrying it out in
the order of its fields turns the staging tree into the source's.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, NamedTuple, Protocol, Sequence, Set, Tuple

from envsync.tree.entry import DIRECTORY, SYMLINK, Entry, join, split
from envsync.tree.listing import may_hold
from envsync.tree.manifest import Manifest

STAGED = -1
"""As a holding: the staging tree itself, once the transfer is done."""


class Make(NamedTuple):
    """One path to be made, and what it has to be."""

    path: bytes
    entry: Entry


class Copy(NamedTuple):
    """One file whose bytes are on the target: in which holding, under which path."""

    path: bytes
    entry: Entry
    holding: int
    source: bytes


class Link(NamedTuple):
    """A further name of a file in the same tree."""

    path: bytes
    leader: bytes


class Held(Protocol):
    """What a tree of the target is believed to hold: whoever copies from it hashes that."""

    def places(self, contents: Collection[bytes]) -> Mapping[bytes, Collection[bytes]]:
        """The paths in it by content, of files that have one of these contents."""
        ...


class Plan(NamedTuple):
    """Steps to carry out in this order; paths are relative to the tree's top.

    `remove` (children first), `directories` (parents first), `symlinks`, `copies` from
    holdings, `fetches` from the source, `repeats` (copies of what was just fetched),
    `links`, then `restamp` for mode and mtime of what is already there.
    """

    remove: Tuple[Make, ...]
    directories: Tuple[Make, ...]
    symlinks: Tuple[Make, ...]
    copies: Tuple[Copy, ...]
    fetches: Tuple[Make, ...]
    repeats: Tuple[Copy, ...]
    links: Tuple[Link, ...]
    restamp: Tuple[Make, ...]

    @property
    def is_empty(self) -> bool:
        return not any(self)

    def touched_directories(self) -> Set[bytes]:
        """The directories in which carrying it out makes or removes something."""
        makes = (self.remove, self.directories, self.symlinks, self.fetches)
        touched = {split(make.path)[0] for group in makes for make in group}
        touched.update(split(copy.path)[0] for copy in (*self.copies, *self.repeats))
        touched.update(split(link.path)[0] for link in self.links)
        return touched

    def fetch_bytes(self) -> int:
        return sum(make.entry.size_bytes for make in self.fetches)

    def copy_bytes(self) -> int:
        return sum(copy.entry.size_bytes for copy in (*self.copies, *self.repeats))

    def new_bytes(self) -> int:
        """Bytes of disk that carrying it out takes before anything is given back."""
        return self.fetch_bytes() + self.copy_bytes()

    def new_inodes(self) -> int:
        makes = (self.directories, self.symlinks, self.fetches)
        return sum(map(len, makes)) + len(self.copies) + len(self.repeats)


def plan(wanted: Manifest, staged: Manifest, holdings: Sequence[Held] = ()) -> Plan:
    """The steps from `staged` to `wanted`, taking bytes from `holdings` where they have them.

    A file that a holding has under the same path is preferred over one elsewhere, and an
    earlier holding over a later one.
    """
    work = _Work(wanted, staged, holdings)
    for directory in sorted(set(wanted.directories) | set(staged.directories)):
        if wanted.directories.get(directory) != staged.directories.get(directory):
            work.compare(directory)
    work.resolve_groups()
    return work.finish()


class _Work:
    """The plan while it is being made."""

    def __init__(self, wanted: Manifest, staged: Manifest, holdings: Sequence[Held]) -> None:
        self._wanted = wanted
        self._staged = staged
        self._holdings = holdings
        self._remove: List[Make] = []
        self._directories: List[Make] = []
        self._symlinks: List[Make] = []
        self._needed: List[Make] = []
        self._restamp: List[Make] = []
        self._links: List[Link] = []
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
        for name, new in wanted.items():
            self._add(start + name, new, staged.get(name))

    def _add(self, path: bytes, new: Entry, old: Entry | None) -> None:
        if new == old:
            return
        if new.link_group:
            self._regroup.add(new.link_group)
        if old is not None and _stays(old, new):
            if not new.link_group:
                self._restamp.append(Make(path, new))
            return
        if new.kind == DIRECTORY:
            self._directories.append(Make(path, new))
        elif new.kind == SYMLINK:
            self._symlinks.append(Make(path, new))
        elif not new.link_group:
            self._needed.append(Make(path, new))

    def resolve_groups(self) -> None:
        """Make every hard-link group that is not already exactly so from its first name."""
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
            # Whatever else stands at a member's path does not stay and goes already.
            self._needed.append(members[0])
            self._links += [Link(make.path, members[0].path) for make in members[1:]]

    def finish(self) -> Plan:
        copies, fetches, repeats = self._distribute()
        return Plan(
            remove=tuple(sorted(self._remove, key=lambda make: make.path, reverse=True)),
            directories=tuple(sorted(self._directories)),
            symlinks=tuple(self._symlinks),
            copies=tuple(copies),
            fetches=tuple(fetches),
            repeats=tuple(repeats),
            links=tuple(self._links),
            restamp=tuple(self._restamp),
        )

    def _distribute(self) -> Tuple[List[Copy], List[Make], List[Copy]]:
        """Decide for each file that is needed where its bytes come from."""
        held = self._held_places()
        copies: List[Copy] = []
        fetches: List[Make] = []
        repeats: List[Copy] = []
        fetched: Dict[bytes, bytes] = {}
        # Each gives way to what becomes of it: there may be 200,000.
        self._needed.sort(reverse=True)
        while self._needed:
            make = self._needed.pop()
            found = self._held(make, held)
            if found is not None:
                copies.append(Copy(make.path, make.entry, *found))
            elif make.entry.content in fetched:
                source = fetched[make.entry.content]
                repeats.append(Copy(make.path, make.entry, STAGED, source))
            else:
                fetched[make.entry.content] = make.path
                fetches.append(make)
        return copies, fetches, repeats

    def _held_places(self) -> List[Mapping[bytes, Collection[bytes]]]:
        contents = {make.entry.content for make in self._needed}
        return [holding.places(contents) for holding in self._holdings]

    def _held(
        self, make: Make, held: Sequence[Mapping[bytes, Collection[bytes]]]
    ) -> Tuple[int, bytes] | None:
        for number, places in enumerate(held):
            paths = places.get(make.entry.content)
            if paths:
                return number, make.path if make.path in paths else min(paths)
        return None


def _stays(old: Entry, new: Entry) -> bool:
    """Whether the staged path can remain, perhaps with another mode or mtime."""
    if old.kind != new.kind:
        return False
    if new.kind == DIRECTORY:
        return True
    if new.kind == SYMLINK:
        return old.content == new.content
    return old.content == new.content and old.link_group == new.link_group


def _groups(manifest: Manifest, which: Set[bytes]) -> Dict[bytes, List[Make]]:
    groups: Dict[bytes, List[Make]] = {}
    for directory, listing in manifest.directories.items():
        for entry in manifest.entries(directory) if may_hold(listing, which) else ():
            if entry.link_group and entry.link_group in which:
                make = Make(join(directory, entry.name), entry)
                groups.setdefault(entry.link_group, []).append(make)
    return {group: sorted(members) for group, members in groups.items()}
