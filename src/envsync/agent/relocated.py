"""A source's tree as it has to be at another place: its manifest, and its files' contents.

The source is only read. Which files name its path is found by reading them once; what they
become is worked out from their bytes whenever it is needed, so no copy is kept anywhere.
"""

from __future__ import annotations

import hashlib
import os
from typing import (
    Callable,
    Collection,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from envsync.agent.messages import RelocationFacts, TotalsFacts
from envsync.agent.prefix_search import Candidate, search
from envsync.agent.relocation_cache import (
    KEY_BYTES,
    Records,
    RelocationCache,
    Rewrites,
    Searched,
)
from envsync.agent.snapshot import Snapshot
from envsync.agent.softlinks import Softlink
from envsync.agent.softlinks import read as read_softlink
from envsync.agent.stat_rows import Row, unpack
from envsync.conda.relocated_records import (
    Rewritten,
    is_conda_record,
    is_pip_record,
    placeholders,
    with_new_digests,
)
from envsync.conda.relocation import CannotRelocate, Placeholder, Relocation, StaysAsItIs
from envsync.errors import SourceRefused
from envsync.tree import listing as listings
from envsync.tree.entry import FILE, SYMLINK, Entry, join, split
from envsync.tree.listing import Listing
from envsync.tree.manifest import Manifest, reference
from envsync.tree.revision import CACHE_DIRECTORY, combine, directory_digest, source_of

_INODE_MASK = (1 << 64) - 1
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Relocated(NamedTuple):
    """What a tree becomes. `paths` are the files whose contents are not the source's."""

    manifest: Manifest
    facts: RelocationFacts
    paths: Set[bytes]
    rewrite: Callable[[int, bytes], bytes]


def read(top_fd: int, path: bytes) -> bytes:
    """A file's content; OSError where it cannot be had."""
    with open(os.open(path, _FILE_FLAGS, dir_fd=top_fd), "rb") as file:
        return file.read()


class Contents:
    """What files become, from the bytes that the source has.

    `conda_records` are the paths of conda's own records, which say where it left room;
    `digests` are of the files that name the old place. What a file becomes depends on its
    content alone, so that equal files stay equal.
    """

    def __init__(
        self,
        relocation: Relocation,
        conda_records: Iterable[bytes],
        digests: Mapping[bytes, bytes],
    ) -> None:
        self._relocation = relocation
        self._conda_records = tuple(conda_records)
        self._digests = digests
        self._placeholders: Optional[Dict[bytes, Placeholder]] = None
        self.files: Dict[bytes, Rewritten] = {}
        self.pip_records: Dict[bytes, Rewritten] = {}

    def rewrite(self, top_fd: int, path: bytes) -> bytes:
        """A file as it has to be there; `CannotRelocate` where that cannot be had."""
        return self.rewritten(top_fd, path, read(top_fd, path))

    def rewritten(self, top_fd: int, path: bytes, content: bytes) -> bytes:
        """The same, for who has read it."""
        placeholder = None
        if b"\0" in content:
            placeholder = self._room(top_fd).get(hashlib.sha256(content).digest())
        content = self._relocation.rewrite(content, placeholder)
        if is_pip_record(path):
            return with_new_digests(path, content, self.files)
        if is_conda_record(path):
            return with_new_digests(path, content, {**self.files, **self.pip_records})
        return content

    def _room(self, top_fd: int) -> Dict[bytes, Placeholder]:
        """What conda says of contents, by digest."""
        if self._placeholders is None:
            self._placeholders = {}
            for record in self._conda_records:
                for path, placeholder in placeholders(read(top_fd, record)).items():
                    if path in self._digests:
                        self._placeholders[self._digests[path]] = placeholder
        return self._placeholders


class Relocator:
    """Works out one relocation of one state of a source."""

    def __init__(
        self,
        top_fd: int,
        snapshot: Snapshot,
        relocation: Relocation,
        cache: RelocationCache,
        clean: Collection[bytes] = (),
        softlinks: Optional[Mapping[bytes, Softlink]] = None,
    ) -> None:
        """`clean` are keys of contents that are known to name nothing.

        `softlinks` become the files that they stand for, also where nothing else changes.
        """
        self._top_fd = top_fd
        self._snapshot = snapshot
        self._relocation = relocation
        self._cache = cache
        self._known = snapshot.known()
        self._searched = cache.searched()
        self._searched.contents.update(clean)
        self._softlinks = softlinks or {}
        self._before = cache.rewrites()
        self._marks = {path: reference(path, known.listing) for path, known in self._known.items()}
        self._examined: List[bytes] = []
        self._records: List[Tuple[bytes, Entry]] = []
        self._naming: Dict[bytes, Entry] = {}
        self._naming_widely: Dict[bytes, Entry] = {}
        self._changed: Dict[bytes, Dict[bytes, Optional[Entry]]] = {}
        self._problems: Dict[bytes, str] = {}
        self._left: List[bytes] = []

    def run(self) -> Relocated:
        """What the tree becomes. `SourceRefused` where it changes meanwhile."""
        if not self._relocation.moves:
            self._dereference()
            return self._relocated(self._read_softlink)
        self._find()
        conda = [(path, entry) for path, entry in self._records if is_conda_record(path)]
        pip = [(path, entry) for path, entry in self._records if is_pip_record(path)]
        digests = {path: entry.content for path, entry in self._naming.items()}
        contents = Contents(self._relocation, [path for path, _ in conda], digests)
        self._rewrite_files(contents)
        pip_rewritten = self._rewrite_records(pip, contents, self._before.pip)
        contents.pip_records.update(_different(pip_rewritten.files))
        conda_rewritten = self._rewrite_records(conda, contents, self._before.conda)
        self._leave_out_compiled()
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
                {entry.content for entry in self._naming_widely.values()},
                pip_rewritten,
                conda_rewritten,
            )
        )
        self._remember_searched()
        return relocated

    def _find(self) -> None:
        """Files that name the old place; symlinks that lead there are changed at once."""
        candidates: Dict[bytes, Tuple[Entry, Row]] = {}
        for directory, known in self._known.items():
            if self._marks[directory] in self._searched.directories:
                continue
            self._examined.append(directory)
            for row, entry in zip(unpack(known.rows), listings.decode(known.listing)):
                path = join(directory, entry.name)
                if self._needs_a_look(path, entry):
                    candidates[path] = entry, row
        rows = [_candidate(path, row) for path, (_, row) in candidates.items()]
        found = search(self._top_fd, self._relocation.needles, rows)
        if found.changed:
            raise _changing(found.changed)
        for path, (entry, _) in candidates.items():
            if path in found.holding_wide and self._names_widely(path, entry):
                self._naming_widely[path] = entry
            if path in found.holding:
                self._naming[path] = entry
            elif path not in self._naming_widely:
                self._searched.contents.add(entry.content[:KEY_BYTES])

    def _needs_a_look(self, path: bytes, entry: Entry) -> bool:
        if entry.kind == SYMLINK:
            target = self._relocation.link_target(entry.content)
            if target != entry.content:
                self._change(path, entry._replace(content=target))
        if entry.kind != FILE or entry.content[:KEY_BYTES] in self._searched.contents:
            return False
        if is_conda_record(path) or is_pip_record(path):
            self._records.append((path, entry))
            return False
        is_wide = entry.content in self._before.wide
        if is_wide:
            self._naming_widely[path] = entry
        if entry.content in self._before.files or entry.content in self._before.problems:
            self._naming[path] = entry
            return False
        if is_wide:
            return False
        # importlib tells compiled code where it stands whenever it loads it.
        return not (_is_compiled(path) and split(split(path)[0])[1] == CACHE_DIRECTORY)

    def _rewrite_files(self, contents: Contents) -> None:
        for path, entry in sorted(self._naming.items()):
            if _is_compiled(path):
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
                # It only seemed to name a path, or it names the base prefix and has no room.
                if self._relocation.names_any(read(self._top_fd, path)):
                    self._left.append(path)
                if path not in self._naming_widely:
                    self._searched.contents.add(entry.content[:KEY_BYTES])
                continue
            contents.files[entry.content] = rewritten
            self._change_content(path, entry, rewritten)

    def _outcome(self, path: bytes, entry: Entry, contents: Contents) -> Rewritten:
        problem = self._before.problems.get(entry.content)
        if problem is not None:
            raise CannotRelocate(problem)
        known = contents.files.get(entry.content) or self._before.files.get(entry.content)
        return known or self._rewritten(path, entry, contents)

    def _rewrite_records(
        self, records: List[Tuple[bytes, Entry]], contents: Contents, before: Records
    ) -> Records:
        """Records are rewritten after what they name."""
        basis = _basis({**contents.files, **contents.pip_records})
        known = before.files if before.basis == basis else {}
        result: Dict[bytes, Rewritten] = {}
        for path, entry in records:
            rewritten = known.get(entry.content) or self._rewritten(path, entry, contents)
            result[entry.content] = rewritten
            if rewritten.digest != entry.content:
                self._change_content(path, entry, rewritten)
        return Records(basis, result)

    def _names_widely(self, path: bytes, entry: Entry) -> bool:
        return self._relocation.names_any_widely(self._read_as_is(path, entry))

    def _read_as_is(self, path: bytes, entry: Entry) -> bytes:
        """A file's content, for certain the one that the manifest has."""
        try:
            content = read(self._top_fd, path)
        except OSError as error:
            raise _changing([path]) from error
        if hashlib.sha256(content).digest() != entry.content:
            raise _changing([path])
        return content

    def _rewritten(self, path: bytes, entry: Entry, contents: Contents) -> Rewritten:
        content = self._read_as_is(path, entry)
        there = contents.rewritten(self._top_fd, path, content)
        return Rewritten(len(content), hashlib.sha256(there).digest(), len(there))

    def _change(self, path: bytes, entry: Optional[Entry]) -> None:
        directory, name = split(path)
        self._changed.setdefault(directory, {})[name] = entry

    def _change_content(self, path: bytes, entry: Entry, rewritten: Rewritten) -> None:
        there = entry._replace(content=rewritten.digest, size_bytes=rewritten.size_bytes)
        self._change(path, there)

    def _leave_out_compiled(self) -> None:
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
                    self._change(join(cached, entry.name), None)

    def _dereference(self) -> None:
        """What conda linked into its package cache names no prefix: it could not be shared."""
        for path, softlink in self._softlinks.items():
            self._change(path, softlink.entry)

    def _read_softlink(self, _: int, path: bytes) -> bytes:
        return read_softlink(self._softlinks[path])

    def _relocated(self, rewrite: Callable[[int, bytes], bytes]) -> Relocated:
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
        facts = RelocationFacts(
            revision=combine(digests),
            totals=TotalsFacts(entries, files, size_bytes),
            problems=tuple(
                "%s: %s" % (_shown(path), text) for path, text in sorted(self._problems.items())
            ),
            left=tuple(map(_shown, sorted({*self._left, *self._naming_widely}))),
            rewritten_files=len(paths),
        )
        manifest = Manifest(directories, scanned.mode, scanned.mtime_ns)
        return Relocated(manifest, facts, paths, rewrite)

    def _problems_by_digest(self) -> Dict[bytes, str]:
        return {self._naming[path].content: text for path, text in self._problems.items()}

    def _remember_searched(self) -> None:
        naming = (*self._naming, *self._naming_widely, *dict(self._records))
        busy = {split(path)[0] for path in naming}
        busy.update(self._changed)
        clean = {self._marks[path] for path in self._examined if path not in busy}
        directories = self._searched.directories.intersection(self._marks.values()) | clean
        self._cache.store_searched(Searched(directories, self._searched.contents))


def _candidate(path: bytes, row: Row) -> Candidate:
    inode = row.inode & _INODE_MASK
    return Candidate(path, inode, row.size_bytes, row.mtime_ns, row.ctime_ns)


def _is_compiled(path: bytes) -> bool:
    return path.endswith(b".pyc")


def _changing(paths: Iterable[bytes]) -> SourceRefused:
    return SourceRefused(
        "it changed while it was read",
        details=[_shown(path) for path in sorted(paths)[:10]],
        hint="push again when it is at rest",
    )


def _different(files: Mapping[bytes, Rewritten]) -> Dict[bytes, Rewritten]:
    return {old: file for old, file in files.items() if file.digest != old}


def _basis(files: Mapping[bytes, Rewritten]) -> str:
    state = hashlib.sha256()
    for old in sorted(files):
        state.update(old)
        state.update(files[old].digest)
    return state.hexdigest()


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


def _shown(path: bytes) -> str:
    return os.fsdecode(path)
