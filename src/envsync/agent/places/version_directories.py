"""The directories of each recorded version: holding only local files does not make them local."""

from __future__ import annotations

from typing import Collection, FrozenSet, Optional, Tuple

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
