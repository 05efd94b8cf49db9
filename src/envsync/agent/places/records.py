"""The records: what a target keeps of each version that was published there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from typing import Collection, List, NamedTuple, Optional, Tuple

from envsync.agent.places.event_history import EventHistory
from envsync.agent.places.held_revisions import HeldRevisions
from envsync.agent.places.layout import INTENT, Layout
from envsync.agent.places.state_files import (
    NONE_FOR_THIS_USER,
    read_checked,
    read_if_undamaged,
    remove_file,
    write_json,
    write_whole,
)
from envsync.agent.server.filesystem import exists
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.errors import AgentFailed
from envsync.tree import manifest as manifests
from envsync.tree.entry import DIGEST_BYTES, InvalidEntry
from envsync.tree.manifest import Manifest, Totals

_NUMBER_MAX = 10**9
_FILE = re.compile(r"([0-9]{6,})\.json\Z")
TAKEN_BACK = "it was changed before it was taken back"
"""The reason to keep a version that was taken back: its check failed or could not be run."""


class Record(NamedTuple):
    """One generation: what it contains, where it came from, and where it is.

    `revision` is of the tree as published here, `source_revision` of the tree it came from; they
    differ if a prefix was rewritten, soft links were replaced, or it was packed or rebuilt. `inode`
    is that of its top directory. `local` are the patterns of local paths with which `revision` was
    computed. `kept_because` says why no automatic clean-up removes the version: usually it was
    replaced although it had changes of its own, or by a source that never had it. `own_changes` is
    a digest of those changes, if a check may have made them. `share` is what it was published for a
    group to do (`tree.sharing`), empty for nothing; None if envsync did not build it.
    `environment_id` identifies its source to all who push from there (see `revision_history`).
    `keep` is how many earlier versions its push left; None if no push published it.
    """

    number: int
    revision: str
    source_revision: str
    inode: int
    who: str
    source: str
    when_seconds: float
    method: str
    transport: str
    totals: Totals
    kept_because: str = ""
    own_changes: str = ""
    local: Tuple[str, ...] = ()
    share: Optional[str] = None
    environment_id: str = ""
    keep: Optional[int] = None

    @property
    def was_taken_back(self) -> bool:
        """Whether it was live only until its check failed, and is kept for changes made then."""
        return self.kept_because == TAKEN_BACK


class RecordSurvey(NamedTuple):
    """The readable records, oldest first, and the files of those that are damaged.

    Whoever removes trees or forgets records decides by one survey and not by two readings: what the
    disk returned to the first may be missing in the second.
    """

    records: List[Record]
    damaged: List[bytes]

    def misses_kept(self, inodes: Collection[int]) -> bool:
        """Return whether a version that no clean-up may remove is not among the trees `inodes`.

        After a restore from a backup every inode differs: then a tree without a record may be that
        version.
        """
        return any(r.kept_because and r.inode not in inodes for r in self.records)


class Records:
    """One environment's records on disk, with its `history` and the revisions `held` there."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.history = EventHistory(layout)
        self.held = HeldRevisions(layout, self.history)

    def survey(self) -> RecordSurvey:
        """Read all records. Raises OSError if the disk does not return one that may be intact."""
        records: List[Record] = []
        damaged: List[bytes] = []
        for path in [self._file(name) for name in self._names() if _FILE.match(name)]:
            with contextlib.suppress(AgentFailed):
                record = from_json(Record, read_if_undamaged(path))
                # A record with another number would lead to another version's files.
                if self._path(record.number, "json") == path:
                    records.append(record)
                    continue
            with contextlib.suppress(FileNotFoundError):  # forgotten meanwhile
                os.lstat(path)
                damaged.append(path)
        return RecordSurvey(sorted(records), damaged)

    def all(self) -> List[Record]:
        """Return every readable record, oldest first. A damaged one is left out, not removed."""
        return self.survey().records

    def damaged(self) -> List[bytes]:
        """Return the files of damaged records: as long as there is one, any tree may be needed."""
        return self.survey().damaged

    def orphans(self, damaged: Collection[bytes]) -> List[bytes]:
        """Return what a process left that died between two files, and what `damaged` records left.

        These are manifests without a record, and files that never got their final name.
        """
        names = self._names()
        records = [n for n in names if _FILE.match(n) and self._file(n) not in damaged]
        known = {name.partition(".")[0] for name in records}
        return [
            self._file(name)
            for name in names
            if not _FILE.match(name) and name.partition(".")[0] not in known
        ]

    def _names(self) -> List[str]:
        """Return the names in the directory; none if it is missing or closed.

        Raises OSError if the disk fails, which does not mean that there are none.
        """
        with contextlib.suppress(*NONE_FOR_THIS_USER):
            return os.listdir(os.fsdecode(self._layout.generations))
        return []

    def _file(self, name: str) -> bytes:
        return os.path.join(self._layout.generations, os.fsencode(name))

    def at(self, inode: int) -> Optional[Record]:
        """Return the newest record of the tree whose top directory has this inode, or None."""
        return next((r for r in reversed(self.all()) if r.inode == inode), None)

    def of_version(self, inode: int) -> Optional[Record]:
        """Return the record that `at` finds or, for a version just switched to, its coming one.

        Between a switch and the record, only the switch's intent says what is live.
        """
        # In this order: the intent is removed after the record is written.
        coming = self._coming()
        return coming if coming is not None and coming.inode == inode else self.at(inode)

    def _coming(self) -> Optional[Record]:
        with contextlib.suppress(AgentFailed, KeyError, ValueError):
            return from_json(Record, read_checked(self._layout.file(INTENT))["new"])
        return None

    def keep_on_record(self) -> Optional[int]:
        """Return how many earlier versions the pushes here left, at most; None if unknown."""
        return max((r.keep for r in self.all() if r.keep is not None), default=None)

    def next_number(self) -> int:
        """Return a number that no version has had, not even one whose record is damaged."""
        numbers = [line.get("number") for line in self.history.events()]
        numbers += [int(match[1]) for match in map(_FILE.match, self._names()) if match]
        return 1 + max(
            (n for n in numbers if isinstance(n, int) and 0 <= n < _NUMBER_MAX), default=0
        )

    def store(self, record: Record, manifest: Optional[Manifest] = None) -> None:
        """Write a record, after its manifest if that is given.

        A tree has one record: one of the same tree with a lower number is forgotten, because by
        that number the tree would be considered a version that nobody needs.
        """
        if manifest is not None:
            self.store_manifest(record.number, manifest)
        write_json(self._path(record.number, "json"), to_json(record))
        for other in self.all():
            if other.inode == record.inode and other.number < record.number:
                self.forget(other)

    def store_manifest(self, number: int, manifest: Manifest) -> None:
        data = manifests.encode(manifest)
        write_whole(self._path(number, "manifest"), hashlib.sha256(data).digest(), data)

    def manifest(self, record: Record) -> Optional[Manifest]:
        """Return the manifest as published; None if it is missing, damaged or unreadable."""
        try:
            with open(self._path(record.number, "manifest"), "rb") as file:
                digest, data = file.read(DIGEST_BYTES), file.read()
            if hashlib.sha256(data).digest() != digest:
                return None
            return manifests.decode_own(data)
        except (OSError, InvalidEntry):
            return None

    def forget(self, record: Record) -> None:
        """Remove the record; the tree is the caller's to remove or to build on."""
        remove_file(self._path(record.number, "json"))
        remove_file(self._path(record.number, "manifest"))

    def forget_unwritten(self, record: Record) -> None:
        """Remove the manifest of a record that was not written; do nothing if it was."""
        if not exists(self._path(record.number, "json")):
            remove_file(self._path(record.number, "manifest"))

    def tree(self, record: Record) -> Optional[bytes]:
        """Return where a record's tree is among the earlier ones; None if it is live or gone.

        Raises OSError if the disk does not tell.
        """
        return self._layout.trees_by_inode().get(record.inode)

    def earlier(self) -> List[Record]:
        """Return the records of earlier versions whose trees are there to go back to."""
        trees = self._layout.trees_by_inode()
        return [record for record in self.all() if record.inode in trees]

    def removed(self) -> Optional[Record]:
        """Return the record of the version that a person removed; None if there is none."""
        removal = self.history.removal()
        number = None if removal is None else removal.number
        return next((record for record in self.all() if record.number == number), None)

    def _path(self, number: int, kind: str) -> bytes:
        return os.path.join(self._layout.generations, b"%06d.%s" % (number, kind.encode()))
