"""Reads everything on a target's disk; trees are scanned by code that is not envsync's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from envsync.agent.places.layout import environment_layout
from envsync.agent.places.records import Record, Records
from envsync.agent.wire.checked_json import from_json
from envsync.tree.entry import DIRECTORY, FILE, SYMLINK
from envsync.tree.manifest import Manifest
from tests.integration.push.places import environment
from tests.lab.lab import LabHost
from tests.support.trees import walk

Fingerprint = str
"""A digest over path, kind and content of every entry, which identifies a version here."""

NOTHING: Fingerprint = ""


@dataclass(frozen=True, slots=True)
class StandingTree:
    """A tree in `trees`, or the live one."""

    path: Path
    content: Fingerprint
    files: frozenset[int]
    """The inodes of its files."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The state of a target.

    `trees`, `records` and `published` (the versions in the records' manifests) are by the inode
    of the tree's top directory. `live` is None if there is no live tree.
    """

    live: StandingTree | None
    live_inode: int
    trees: Mapping[int, StandingTree]
    records: Mapping[int, Record]
    published: Mapping[int, Fingerprint]
    switching: bool
    """Whether there is an intent, which says that a switch is under way."""

    @property
    def content(self) -> Fingerprint:
        return NOTHING if self.live is None else self.live.content

    @property
    def recorded(self) -> Fingerprint:
        """The version that the live tree's record says was published; NOTHING without a record."""
        return self.published.get(self.live_inode, NOTHING)

    def standing(self) -> set[Fingerprint]:
        """Return every version on the target, live or not."""
        return {self.content, *(tree.content for tree in self.trees.values())}

    def every_tree(self) -> list[StandingTree]:
        """Return the trees, in an order that stays the same while none is added or removed."""
        trees = [self.trees[inode] for inode in sorted(self.trees)]
        return trees if self.live is None else [self.live, *trees]

    def versions(self) -> set[Fingerprint]:
        """Return the versions of the generations, that is, of recorded trees that are not live."""
        return {tree.content for inode, tree in self.trees.items() if inode in self.records}


def observe(host: LabHost, but: bytes = b"") -> Observed:
    """Read a target's disk; the path `but` is left out of the content of every tree."""
    live = environment(host)
    known = Records(environment_layout(str(host.path(host.prefix)), live.name))
    state = live.parent / ".envsync" / live.name
    records = {record.inode: record for record in known.all()}
    published = {inode: of_manifest(known.manifest(record)) for inode, record in records.items()}
    trees = {}
    if (state / "trees").is_dir():
        for path in (state / "trees").iterdir():
            trees[path.lstat().st_ino] = _standing(path, but)
    live_inode = live.lstat().st_ino if live.exists() else 0
    switching = (state / "intent.json").exists()
    if switching and live_inode not in published:
        published |= _intended(known, state, live_inode)
    return Observed(
        live=_standing(live, but) if live.exists() else None,
        live_inode=live_inode,
        trees=trees,
        records=records,
        published=published,
        switching=switching,
    )


def _standing(path: Path, but: bytes = b"") -> StandingTree:
    entries: list[tuple[bytes, str, bytes]] = []
    inodes: set[int] = set()
    pending = [""]
    for directory in pending:
        with os.scandir(f"{path}/{directory}") as found:
            for entry in found:
                status = entry.stat(follow_symlinks=False)
                below = directory + entry.name
                kind, content = "file", b""
                if entry.is_symlink():
                    kind, content = "symlink", os.fsencode(Path(entry.path).readlink())
                elif entry.is_dir():
                    kind = "directory"
                    pending.append(f"{below}/")
                else:
                    content = _digest(entry.path, status)
                    inodes.add(status.st_ino)
                if os.fsencode(below) != but:
                    entries.append((os.fsencode(below), kind, content))
    return StandingTree(path, fingerprint(entries), frozenset(inodes))


_KIND_NAMES = {FILE: "file", DIRECTORY: "directory", SYMLINK: "symlink"}
_digests: dict[tuple[int, ...], bytes] = {}
_DIGESTS_MAX = 20_000


def _digest(path: str, status: os.stat_result) -> bytes:
    """Return a file's digest, from memory if its status is unchanged.

    Every write changes the ctime, which cannot be set back.
    """
    numbers = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    found = _digests.get(numbers)
    if found is None:
        if len(_digests) >= _DIGESTS_MAX:
            _digests.clear()
        found = hashlib.sha256(Path(path).read_bytes()).digest()
        _digests[numbers] = found
    return found


def _intended(known: Records, state: Path, live_inode: int) -> dict[int, Fingerprint]:
    """Return the live version if an interrupted switch has not written its record yet."""
    new = from_json(Record, json.loads((state / "intent.json").read_text())["new"])
    return {live_inode: of_manifest(known.manifest(new))} if new.inode == live_inode else {}


def of_manifest(manifest: Manifest | None) -> Fingerprint:
    if manifest is None:
        return "damaged"
    return fingerprint(
        (path, _KIND_NAMES[entry.kind], entry.content) for path, entry in walk(manifest)
    )


def of_tree(path: Path) -> Fingerprint:
    return _standing(path).content


def fingerprint(entries: Iterable[tuple[bytes, str, bytes]]) -> Fingerprint:
    digest = hashlib.sha256()
    for path, kind, content in sorted(entries):
        for part in (path, kind.encode(), content):
            digest.update(b"%d " % len(part) + part)
    return digest.hexdigest()[:16]
