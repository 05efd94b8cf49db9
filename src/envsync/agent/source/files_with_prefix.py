"""Finds the files of a tree that contain its prefix; each content is searched once."""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, Tuple

from envsync.agent.source.prefix_search import FileToSearch, search
from envsync.agent.source.relocation_cache import KEY_BYTES, Rewrites, Searched
from envsync.agent.source.verified_read import read_verified, source_changed
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.stat_rows import INODE_MASK, Row, unpack
from envsync.conda.metadata import is_conda_record, is_pip_record
from envsync.conda.relocation import Relocation
from envsync.tree import listing as listings
from envsync.tree.entry import FILE, SYMLINK, Entry, join, split
from envsync.tree.manifest import reference
from envsync.tree.revision import CACHE_DIRECTORY


class FilesWithPrefix:
    """The files with the prefix in one state of a source, found by `find`.

    `files` contain the prefix; `wide_files` do so in UTF-16 or UTF-32. `records` are conda's and
    pip's own, which are not searched. `links` are the new entries of symlinks into the prefix.
    """

    def __init__(
        self,
        top_fd: int,
        known: Mapping[bytes, Known],
        relocation: Relocation,
        before: Rewrites,
        searched: Searched,
    ) -> None:
        """`before` and `searched` are the results of earlier searches of other states."""
        self._top_fd = top_fd
        self._known = known
        self._relocation = relocation
        self._before = before
        self._searched = searched
        self._marks = {path: reference(path, row.listing) for path, row in known.items()}
        self._examined: List[bytes] = []
        self.files: Dict[bytes, Entry] = {}
        self.wide_files: Dict[bytes, Entry] = {}
        self.records: List[Tuple[bytes, Entry]] = []
        self.links: Dict[bytes, Entry] = {}

    def find(self) -> None:
        """Search what is not known yet; `SourceRefused` if a file changes meanwhile."""
        candidates: Dict[bytes, Tuple[Entry, Row]] = {}
        for directory, known in self._known.items():
            if self._marks[directory] in self._searched.directories:
                continue
            self._examined.append(directory)
            for row, entry in zip(unpack(known.rows), listings.decode(known.listing)):
                path = join(directory, entry.name)
                if self._is_to_be_searched(path, entry):
                    candidates[path] = entry, row
        rows = [_candidate(path, row) for path, (_, row) in candidates.items()]
        result = search(self._top_fd, self._relocation.needles, rows)
        if result.changed:
            raise source_changed(result.changed)
        for path, (entry, _) in candidates.items():
            if path in result.holding_wide and self._has_wide_prefix(path, entry):
                self.wide_files[path] = entry
            if path in result.holding:
                self.files[path] = entry
            else:
                self.note_without_prefix(path, entry)

    def _is_to_be_searched(self, path: bytes, entry: Entry) -> bool:
        if entry.kind == SYMLINK:
            target = self._relocation.link_target(entry.content)
            if target != entry.content:
                self.links[path] = entry._replace(content=target)
        if entry.kind != FILE:
            return False
        # Before anything else: a record changes with the files that it lists, whatever is in it.
        if is_conda_record(path) or is_pip_record(path):
            self.records.append((path, entry))
            return False
        if entry.content[:KEY_BYTES] in self._searched.contents:
            return False
        is_wide = entry.content in self._before.wide
        if is_wide:
            self.wide_files[path] = entry
        if entry.content in self._before.files or entry.content in self._before.problems:
            self.files[path] = entry
            return False
        if is_wide:
            return False
        # importlib sets the path in compiled code when loading it.
        return not (is_compiled(path) and split(split(path)[0])[1] == CACHE_DIRECTORY)

    def _has_wide_prefix(self, path: bytes, entry: Entry) -> bool:
        return self._relocation.names_any_widely(read_verified(self._top_fd, path, entry))

    def note_without_prefix(self, path: bytes, entry: Entry) -> None:
        """Note that a file's content has no prefix, so that it is not searched again."""
        if path not in self.wide_files:
            self._searched.contents.add(entry.content[:KEY_BYTES])

    def searched(self, changed: Collection[bytes]) -> Searched:
        """Return the results for the next search; in `changed` directories, some entry changed."""
        busy = {split(path)[0] for path in (*self.files, *self.wide_files, *dict(self.records))}
        busy.update(changed)
        clean = {self._marks[path] for path in self._examined if path not in busy}
        directories = self._searched.directories.intersection(self._marks.values()) | clean
        return Searched(directories, self._searched.contents)


def is_compiled(path: bytes) -> bool:
    """Return whether a file is Python bytecode, which cannot be rewritten."""
    return path.endswith(b".pyc")


def _candidate(path: bytes, row: Row) -> FileToSearch:
    inode = row.inode & INODE_MASK
    return FileToSearch(path, inode, row.size_bytes, row.mtime_ns, row.ctime_ns)
