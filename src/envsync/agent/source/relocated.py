"""Relocates a source's tree: its manifest and its files' contents for another path.

The source is only read. The files that contain its path are found by reading them once; their
new contents are computed whenever they are needed, so no copy is kept anywhere.
"""

from __future__ import annotations

import hashlib
import os
from typing import (
    Callable,
    Collection,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Set,
    Tuple,
)

from envsync.agent.source.files_with_prefix import FilesWithPrefix, is_compiled
from envsync.agent.source.relocated_contents import RelocatedContents
from envsync.agent.source.relocation_cache import (
    Declared,
    RelocationCache,
    Rewrites,
    RewrittenRecords,
)
from envsync.agent.source.softlinks import Softlink
from envsync.agent.source.softlinks import read as read_softlink
from envsync.agent.source.verified_read import read_verified
from envsync.agent.trees.changed_tree import ChangedTree
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.source_operations import RelocationFacts
from envsync.conda.metadata import is_conda_record, is_pip_record
from envsync.conda.relocated_records import Rewritten
from envsync.conda.relocation import CannotRelocate, Relocation, StaysAsItIs
from envsync.tree.entry import Entry
from envsync.tree.manifest import Manifest


class Relocated(NamedTuple):
    """A relocated tree.

    `paths` are the files whose contents differ from the source's, or that are links there.
    `rewrite` returns the content of one, given the descriptor of the source's directory.
    """

    manifest: Manifest
    facts: RelocationFacts
    paths: Set[bytes]
    rewrite: Callable[[int, bytes], bytes]


class Relocator:
    """Makes one relocation of one state of a source."""

    def __init__(
        self,
        top_fd: int,
        snapshot: Snapshot,
        relocation: Relocation,
        cache: RelocationCache,
        clean: Collection[bytes],
        softlinks: Mapping[bytes, Softlink],
    ) -> None:
        """`clean` are keys of contents that are known not to contain the prefix.

        `softlinks` are replaced by the files that they lead to, even if nothing else changes.
        """
        self._top_fd = top_fd
        self._snapshot = snapshot
        self._relocation = relocation
        self._cache = cache
        self._softlinks = softlinks
        self._before = cache.rewrites()
        searched = cache.searched()
        searched.contents.update(clean)
        self._naming = FilesWithPrefix(top_fd, snapshot.known(), relocation, self._before, searched)
        self._tree = ChangedTree(snapshot)
        self._problems: Dict[bytes, str] = {}
        self._left: List[bytes] = []
        self._compiled_left_out = 0

    def run(self) -> Relocated:
        """Return the relocated tree; `SourceRefused` if the source changes meanwhile."""
        if not self._relocation.moves:
            self._dereference()
            return self._relocated(self._read_softlink)
        self._naming.find()
        for path, entry in self._naming.links.items():
            self._tree.change(path, entry)
        conda = [(path, entry) for path, entry in self._naming.records if is_conda_record(path)]
        pip = [(path, entry) for path, entry in self._naming.records if is_pip_record(path)]
        digests = {path: entry.content for path, entry in self._naming.files.items()}
        contents = RelocatedContents(self._relocation, conda, digests)
        self._rewrite_files(contents)
        pip_rewritten = self._rewrite_records(pip, contents, self._before.pip)
        contents.pip_records.update(_different(pip_rewritten.files))
        conda_rewritten = self._rewrite_records(conda, contents, self._before.conda)
        self._compiled_left_out = self._tree.leave_out_compiled()
        self._dereference()

        def rewrite(top_fd: int, path: bytes) -> bytes:
            if path in self._softlinks:
                return self._read_softlink(top_fd, path)
            return contents.rewrite(top_fd, path)

        relocated = self._relocated(rewrite)
        self._cache.store_rewrites(
            Rewrites(
                self._snapshot.revision,
                relocated.facts,
                contents.files,
                self._problems_by_digest(),
                {entry.content for entry in self._naming.wide_files.values()},
                pip_rewritten,
                conda_rewritten,
                Declared(contents.records_state, contents.rooms),
            )
        )
        self._cache.store_searched(self._naming.searched(self._tree.directories))
        return relocated

    def _rewrite_files(self, contents: RelocatedContents) -> None:
        for path, entry in sorted(self._naming.files.items()):
            if is_compiled(path):
                self._left.append(path)
                continue
            try:
                rewritten = self._outcome(path, entry, contents)
            except StaysAsItIs:
                self._left.append(path)
                continue
            except CannotRelocate as problem:
                self._problems[path] = str(problem)
                continue
            if rewritten.digest == entry.content:
                self._leave(path, entry, rewritten, contents)
                continue
            contents.files[entry.content] = rewritten
            self._change_content(path, entry, rewritten)

    def _leave(
        self, path: bytes, entry: Entry, same: Rewritten, contents: RelocatedContents
    ) -> None:
        """Handle a file that stays the same.

        Either it only seemed to contain the path, or it contains the base prefix and has no room
        for the one there. The latter is noted for this target path alone, as others may be shorter.
        """
        is_known = entry.content in self._before.files and self._holds(entry.content, contents)
        if is_known or self._relocation.names_any(read_verified(self._top_fd, path, entry)):
            self._left.append(path)
            contents.files[entry.content] = same
        else:
            self._naming.note_without_prefix(path, entry)

    def _outcome(self, path: bytes, entry: Entry, contents: RelocatedContents) -> Rewritten:
        known = contents.files.get(entry.content)
        if known is None and self._holds(entry.content, contents):
            problem = self._before.problems.get(entry.content)
            if problem is not None:
                raise CannotRelocate(problem)
            known = self._before.files.get(entry.content)
        return known or self._rewritten(path, entry, contents)

    def _holds(self, digest: bytes, contents: RelocatedContents) -> bool:
        """Return whether the cached result for a content is still valid.

        How a binary is rewritten depends on conda's records, which may have changed: another
        package may have replaced the binary, while a copy of it is still elsewhere.
        """
        declared = self._before.declared
        if digest not in declared.rooms:
            return True
        room = declared.rooms[digest]
        if declared.basis != contents.records_state and room != contents.room(self._top_fd, digest):
            return False
        contents.rooms[digest] = room
        return True

    def _rewrite_records(
        self,
        records: List[Tuple[bytes, Entry]],
        contents: RelocatedContents,
        before: RewrittenRecords,
    ) -> RewrittenRecords:
        """Rewrite records, which has to follow the rewriting of the files that they list."""
        basis = _basis({**contents.files, **contents.pip_records})
        known = before.files if before.basis == basis else {}
        result: Dict[bytes, Rewritten] = {}
        for path, entry in records:
            rewritten = known.get(entry.content) or self._rewritten(path, entry, contents)
            result[entry.content] = rewritten
            if rewritten.digest != entry.content:
                self._change_content(path, entry, rewritten)
        return RewrittenRecords(basis, result)

    def _rewritten(self, path: bytes, entry: Entry, contents: RelocatedContents) -> Rewritten:
        content = read_verified(self._top_fd, path, entry)
        there = contents.rewritten(self._top_fd, path, content)
        return Rewritten(len(content), hashlib.sha256(there).digest(), len(there))

    def _change_content(self, path: bytes, entry: Entry, rewritten: Rewritten) -> None:
        there = entry._replace(content=rewritten.digest, size_bytes=rewritten.size_bytes)
        self._tree.change(path, there)

    def _dereference(self) -> None:
        """Replace soft links by their files; these contain no prefix, or conda would copy them."""
        for path, softlink in self._softlinks.items():
            self._tree.change(path, softlink.entry)

    def _read_softlink(self, _: int, path: bytes) -> bytes:
        return read_softlink(self._softlinks[path])

    def _relocated(self, rewrite: Callable[[int, bytes], bytes]) -> Relocated:
        changed = self._tree.result()
        facts = RelocationFacts(
            revision=changed.revision,
            totals=changed.totals,
            problems=tuple(
                f"{os.fsdecode(path)}: {text}" for path, text in sorted(self._problems.items())
            ),
            left=tuple(map(os.fsdecode, sorted({*self._left, *self._naming.wide_files}))),
            compiled_left_out=self._compiled_left_out,
        )
        return Relocated(changed.manifest, facts, changed.paths, rewrite)

    def _problems_by_digest(self) -> Dict[bytes, str]:
        return {self._naming.files[path].content: text for path, text in self._problems.items()}


def _different(files: Mapping[bytes, Rewritten]) -> Dict[bytes, Rewritten]:
    return {old: file for old, file in files.items() if file.digest != old}


def _basis(files: Mapping[bytes, Rewritten]) -> str:
    state = hashlib.sha256()
    for old in sorted(files):
        state.update(old)
        state.update(files[old].digest)
    return state.hexdigest()
