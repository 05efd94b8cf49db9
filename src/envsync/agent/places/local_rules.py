"""What is local in an environment, by its records: the patterns, and the directories that are not.

A directory of a recorded version is not made local by holding only local files.
"""

from __future__ import annotations

import contextlib
from typing import Collection, FrozenSet, Optional, Sequence, Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.places.records import Record, Records
from envsync.agent.trees.open_tree import Versions


class VersionDirectories(Versions):
    """The directories of an environment's versions, by the inode of the top directory.

    They are read when first asked for. Empty if there is no record, or if its manifest is missing
    or damaged.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._last: Optional[Tuple[Record, FrozenSet[bytes]]] = None

    def directories(self, inode: int) -> Collection[bytes]:
        record = self._records.of_version(inode)
        if record is None:
            return ()
        if self._last is None or self._last[0] != record:
            manifest = self._records.manifest(record)
            directories = frozenset(() if manifest is None else manifest.directories)
            self._last = record, directories
        return self._last[1]

    def revision(self, inode: int) -> str:
        record = self._records.of_version(inode)
        return "" if record is None else record.revision


def local_patterns(
    layout: Layout, shared: Sequence[str], own: Optional[Sequence[str]]
) -> Tuple[str, ...]:
    """Return the patterns of an environment's local paths: the `shared` ones and its `own`.

    `own` is None if the inventory does not list the environment, such as one that was pushed under
    another name. Then they are those with which the live version was published; none if this user
    may not read which.
    """
    if own is None:
        record = None
        with contextlib.suppress(PermissionError):
            record = Records(layout).of_version(layout.inode() or 0)
        own = () if record is None else record.local
    return tuple(dict.fromkeys((*shared, *own)))
