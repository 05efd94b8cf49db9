"""Builds listings from a scan in one attempt, hashing only files with no known digest."""

from __future__ import annotations

import os
from stat import S_IFLNK, S_IFREG
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from envsync.agent.server.filesystem import birth_time_ns
from envsync.agent.server.progress import Progress
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.file_hash import MISSING
from envsync.agent.trees.hashing import Hashing
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.set_id import SET_ID, mode_for
from envsync.agent.trees.stat_rows import INODE_MASK, KIND_MASK, Row, linked_files, unpack
from envsync.agent.trees.unhashed import Unhashed
from envsync.agent.trees.written_digests import WrittenDigests
from envsync.tree import listing as listings
from envsync.tree.entry import DIGEST_BYTES, DIRECTORY, FILE, SYMLINK, Entry, join, split
from envsync.tree.manifest import Manifest, Totals
from envsync.tree.outline import placeholder
from envsync.tree.revision import CACHE_DIRECTORY, directory_digest, entries_digest

_MODE_BITS = 0o7775  # no world-write, ever
_NO_DIGEST = bytes(DIGEST_BYTES)

_Before = Dict[bytes, Tuple[Row, bytes]]


class ListingBuild:
    """One attempt to turn directories' packed rows into listings, hashing what is not known.

    After it, `unreadable` has the paths that could not be read, and `changed` the directories
    whose listings were made anew.
    """

    def __init__(
        self,
        top_fd: int,
        rows: Mapping[bytes, bytes],
        known: Dict[bytes, Known],
        written: WrittenDigests,
        progress: Optional[Progress],
        hashing: Optional[Hashing] = None,
    ) -> None:
        self._top_fd = top_fd
        self._hashing = hashing or Hashing()
        self._rows = rows
        self._known = known
        self._written = written
        self._progress = progress
        self.hashed_bytes = 0
        self.unreadable: List[bytes] = []
        self.changed: Set[bytes] = set()
        self._linked: Dict[int, bool] = {}

    def directories(self) -> Dict[bytes, Known]:
        """Return what is now known of each directory.

        One directory is decoded at a time: 200,000 files as objects would take more memory than
        a server should have to provide.
        """
        result: Dict[bytes, Known] = {}
        changed: List[bytes] = []
        for path, packed in self._rows.items():
            known = self._known.get(path)
            if known is not None and known.rows == packed:
                # Use the scan's rows, so that memory holds them only once.
                result[path] = known if known.rows is packed else known._replace(rows=packed)
            else:
                changed.append(path)
        for path in self._regrouped(changed, result):
            del result[path]
            changed.append(path)
        self.changed = set(changed)
        every = {path: known.listing for path, known in result.items()}
        for path, entries in self._decoded(sorted(changed)):
            every[path] = listings.encode(entries)
            digest = entries_digest(every, path, entries)
            rows = self._rows[path]
            result[path] = _known(path, rows, entries, every[path], digest)
        for path in changed:
            cached = join(path, CACHE_DIRECTORY)
            if cached in result and cached not in self.changed:
                result[cached] = result[cached]._replace(digest=directory_digest(every, cached))
        return result

    def outline(self, scanned: Scan) -> Tuple[Manifest, Totals]:
        """Return manifest and totals without hashing: contents of files are placeholders."""
        groups = self._link_groups(self._rows)
        directories: Dict[bytes, bytes] = {}
        files = size_bytes = 0
        for path, packed in self._rows.items():
            rows = unpack(packed)
            contents = [placeholder(row.inode & INODE_MASK) for row in rows]
            entries = self._entries(path, rows, contents, groups)
            directories[path] = listings.encode(entries)
            sizes = [entry.size_bytes for entry in entries if entry.kind == FILE]
            files += len(sizes)
            size_bytes += sum(sizes) - (_repeated_bytes(path, entries) if groups else 0)
        manifest = Manifest(directories, scanned.mode, scanned.mtime_ns)
        return manifest, Totals(scanned.entries, files, size_bytes)

    def _decoded(self, changed: Sequence[bytes]) -> Iterator[Tuple[bytes, Tuple[Entry, ...]]]:
        """Yield the entries of these directories, those with files to hash last.

        A `__pycache__` directory comes after the one that it is in, whose sources decide which
        compiled files count in the revision.
        """
        self._hashing.give_way()
        groups = self._link_groups(self.changed)
        late: Dict[bytes, Unhashed] = {}
        for path in changed:
            self._hashing.give_way()
            rows = unpack(self._rows[path])
            known = self._known_digests(path, rows)
            lacking = [
                row.size_bytes
                for row, digest in zip(rows, known)
                if not digest and row.mode & KIND_MASK == S_IFREG
            ]
            above, name = split(path)
            if not lacking and not (name == CACHE_DIRECTORY and above in late):
                yield path, self._entries(path, rows, known, groups)
                continue
            digests = bytearray().join([digest or _NO_DIGEST for digest in known])
            late[path] = Unhashed(path, self._rows[path], digests, len(lacking), sum(lacking))
        for part in self._hashed(late):
            path = part.directory
            self.hashed_bytes += part.size_bytes
            rows, contents = unpack(part.rows), part.contents()
            self.unreadable += [
                join(path, row.name)
                for row, content in zip(rows, contents)
                if content == MISSING and row.mode & KIND_MASK == S_IFREG
            ]
            yield path, self._entries(path, rows, contents, groups)

    def _hashed(self, late: Mapping[bytes, Unhashed]) -> Iterator[Unhashed]:
        """Yield each part once its files are hashed, a `__pycache__` after the one it is in."""
        pending = set(late)
        held: Dict[bytes, Unhashed] = {}
        for part in self._hashing.each(self._top_fd, list(late.values()), self._progress):
            ready = [part]
            while ready:
                finished = ready.pop()
                above, name = split(finished.directory)
                if name == CACHE_DIRECTORY and above in pending:
                    held[above] = finished
                    continue
                pending.remove(finished.directory)
                yield finished
                if finished.directory in held:
                    ready.append(held.pop(finished.directory))

    def _known_digests(self, directory: bytes, rows: Sequence[Row]) -> List[Optional[bytes]]:
        """Return each file's digest, or None unless its status shows that it is unchanged."""
        before = self._before(directory)
        if not before and not self._written:
            return [None] * len(rows)
        digests = self._written.digests(directory, rows)
        if before:
            for number, row in enumerate(rows):
                if digests[number] is None and row.mode & KIND_MASK == S_IFREG:
                    path = join(directory, row.name)
                    digests[number] = self._as_before(path, row, before)
        return digests

    def _as_before(self, path: bytes, row: Row, before: _Before) -> Optional[bytes]:
        old_row, content = before.get(row.name, (None, b""))
        if old_row is None or not _same_content(old_row, row):
            return None
        is_it = old_row.ctime_ns == row.ctime_ns or self._is_the_same_file(path, old_row)
        return content if is_it else None

    def _is_the_same_file(self, path: bytes, old: Row) -> bool:
        """Return whether the inode is older than the row, or of unknown age.

        A newer one is another file of the same size and mtime that got the inode number of a
        removed one, as can happen when packages are reinstalled.
        """
        if old.inode not in self._linked:
            born = birth_time_ns(path, self._top_fd)
            self._linked[old.inode] = born is None or born <= old.ctime_ns
        return self._linked[old.inode]

    def _entries(
        self,
        directory: bytes,
        rows: Sequence[Row],
        contents: Sequence[Optional[bytes]],
        groups: Mapping[int, bytes],
    ) -> Tuple[Entry, ...]:
        """Return a directory's entries; `contents` has a digest for each row that is a file."""
        entries: List[Entry] = []
        new = tuple.__new__  # avoids the constructor, as this runs once for every entry
        for (name, mode, inode, size_bytes, mtime_ns, _, _), digest in zip(rows, contents):
            kind = mode & KIND_MASK
            if kind == S_IFREG:
                bits = self._own_mode(join(directory, name)) if mode & SET_ID else mode
                group = groups.get(inode, b"") if groups else b""
                content = digest or _NO_DIGEST
                fields = (name, FILE, bits & _MODE_BITS, size_bytes, mtime_ns, content, group)
                entry = new(Entry, fields)
            elif kind == S_IFLNK:
                target = self._target(join(directory, name))
                entry = Entry(name, SYMLINK, 0o777 & _MODE_BITS, 0, mtime_ns, target)
            else:
                entry = Entry(name, DIRECTORY, mode & _MODE_BITS, 0, mtime_ns, b"")
            entries.append(entry)
        return tuple(entries)

    def _own_mode(self, path: bytes) -> int:
        """Return the mode of a file with a set-id bit, as a copy owned by this user may have it."""
        try:
            status = os.stat(path, dir_fd=self._top_fd, follow_symlinks=False)
        except OSError:
            return 0  # the file is gone, which the next pass will notice
        return mode_for(os.geteuid(), status)

    def _before(self, directory: bytes) -> _Before:
        known = self._known.get(directory)
        if known is None:
            return {}
        entries = listings.decode(known.listing)
        return {
            row.name: (row, entry.content)
            for row, entry in zip(unpack(known.rows), entries)
            if row.name == entry.name
        }

    def _target(self, path: bytes) -> bytes:
        try:
            return os.readlink(path, dir_fd=self._top_fd)
        except OSError:
            self.unreadable.append(path)
            return b"?"

    def _regrouped(self, changed: Iterable[bytes], unchanged: Mapping[bytes, Known]) -> List[bytes]:
        """Return the `unchanged` directories in which a file's link group may be another now.

        A file that gets or loses a name changes its status, which all of its names show. But not
        if a directory with the name is renamed, or moved into the tree or out of it.
        """
        if not unchanged:
            return []
        now = {name for path in changed for name in _linked_names(path, self._rows[path])}
        before = {
            name
            for path, known in self._known.items()
            if path not in unchanged
            for name in _linked_names(path, known.rows)
        }
        inodes = {inode for _, inode in now ^ before}
        if not inodes:
            return []
        return [
            path
            for path, known in unchanged.items()
            if any(inode in inodes for _, inode in linked_files(known.rows))
        ]

    def _link_groups(self, among: Iterable[bytes]) -> Dict[int, bytes]:
        """Return the link group of each inode with several names in the tree, by inode.

        Only files with a name in the directories `among` are considered.
        """
        rows = self._rows
        wanted = {inode for directory in among for _, inode in linked_files(rows[directory])}
        if not wanted:
            return {}
        first: Dict[int, bytes] = {}
        several: Set[int] = set()
        for directory, packed in rows.items():
            for name, inode in linked_files(packed):
                if inode in wanted:
                    path = join(directory, name)
                    if inode in first:
                        several.add(inode)
                        path = min(path, first[inode])
                    first[inode] = path
        return {inode: listings.link_group(first[inode]) for inode in several}


def _linked_names(directory: bytes, rows: bytes) -> Iterator[Tuple[bytes, int]]:
    """Yield path and inode of each file in a directory that has other names too, anywhere."""
    for name, inode in linked_files(rows):
        yield join(directory, name), inode


def _repeated_bytes(path: bytes, entries: Sequence[Entry]) -> int:
    """Return the bytes of names whose file is already counted at its first name."""
    return sum(
        entry.size_bytes
        for entry in entries
        if entry.link_group and entry.link_group != listings.link_group(join(path, entry.name))
    )


def _known(
    path: bytes, rows: bytes, entries: Tuple[Entry, ...], listing: bytes, digest: bytes
) -> Known:
    sizes = [entry.size_bytes for entry in entries if entry.kind == FILE]
    size_bytes = sum(sizes) - _repeated_bytes(path, entries)
    return Known(rows, listing, digest, len(sizes), size_bytes)


def _same_content(old: Row, new: Row) -> bool:
    """Return whether a file's bytes are still those of an earlier row.

    Any write changes ctime. So does a new hard link elsewhere (`conda create --clone`),
    but then the link count differs too, and nothing else does. In that case the caller must also
    make sure that it is the same file.
    """
    if (old.inode, old.size_bytes, old.mtime_ns) != (new.inode, new.size_bytes, new.mtime_ns):
        return False
    return old.ctime_ns == new.ctime_ns or old.links != new.links
