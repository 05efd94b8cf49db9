"""Every entry of an environment: the basis of transfer, verification and the record."""

from __future__ import annotations

import hashlib
import struct
from typing import (
    Collection,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from envsync.tree import listing as listings
from envsync.tree.entry import (
    DIRECTORY,
    FILE,
    MODE_MASK,
    PATH_MAX_BYTES,
    Entry,
    InvalidEntry,
    join,
    split,
)
from envsync.tree.listing import Listing
from envsync.tree.local import LocalPaths

_MAGIC = b"envsync manifest 1\n"
_HEAD = struct.Struct("<HqI")
_ROW = struct.Struct("<BII")
_WHOLE, _REFERENCE = 0, 1
REFERENCE_BYTES = 12

ENTRIES_MAX = 2_000_000
"""More entries than any environment has; a manifest with more is treated as an attack."""


class Manifest(NamedTuple):
    """An environment's entries, directory by directory.

    `directories` maps each directory's path, relative to the top (b"" is the top itself), to its
    encoded listing. `mode` and `mtime_ns` are the top directory's own. Values never change after
    they are made; two equal manifests have equal fields.
    """

    directories: Mapping[bytes, Listing]
    mode: int
    mtime_ns: int

    def entries(self, directory: bytes) -> Tuple[Entry, ...]:
        """Return the entries of one directory; none if there is no such directory."""
        return listings.decode(self.directories.get(directory, b""))

    def find(self, path: bytes) -> Optional[Entry]:
        """Return the entry at `path`, or None."""
        directory, name = split(path)
        for entry in self.entries(directory):
            if entry.name == name:
                return entry
        return None

    def places(self, contents: Collection[bytes]) -> Dict[bytes, Collection[bytes]]:
        """Return the paths of the files that have one of these contents, by content."""
        # Most collections hold one path, and a set of one takes five times the memory of a tuple.
        places: Dict[bytes, Collection[bytes]] = {}
        several: Dict[bytes, Set[bytes]] = {}
        for directory, rows in listings.that_may_hold(self.directories, contents):
            for entry in listings.decode(rows):
                if entry.kind != FILE or entry.content not in contents:
                    continue
                path = join(directory, entry.name)
                if entry.content in several:
                    several[entry.content].add(path)
                elif entry.content in places:
                    several[entry.content] = {*places[entry.content], path}
                else:
                    places[entry.content] = (path,)
        places.update(several)
        return places

    def without(self, local: LocalPaths) -> Manifest:
        """Return the manifest without what `local` names."""
        directories = {}
        for path, rows in self.directories.items():
            names = local.names(path)
            if names is None:
                directories[path] = rows
            else:
                rest = (entry for entry in listings.decode(rows) if not names.fullmatch(entry.name))
                directories[path] = listings.encode(rest)
        directories = {path: rows for path, rows in directories.items() if not local.matches(path)}
        return self._replace(directories=directories)


class Totals(NamedTuple):
    """The totals of a manifest; the bytes of a file with several names count once."""

    entries: int = 0
    files: int = 0
    size_bytes: int = 0


EMPTY = Manifest({}, 0o755, 0)


def reference(directory: bytes, listing: Listing) -> bytes:
    """Return the digest that stands for a directory that the other side is known to have."""
    digest = hashlib.sha256(struct.pack("<I", len(directory)) + directory + listing)
    return digest.digest()[:REFERENCE_BYTES]


def references(manifest: Manifest) -> Dict[bytes, bytes]:
    """Return a map from each directory's reference to its path."""
    return {reference(path, rows): path for path, rows in manifest.directories.items()}


def digest(manifest: Manifest) -> str:
    """Return the SHA-256 of the whole manifest, mtimes and modes included; not the revision."""
    state = hashlib.sha256(_HEAD.pack(manifest.mode, manifest.mtime_ns, 0))
    for path in sorted(manifest.directories):
        rows = manifest.directories[path]
        state.update(struct.pack("<II", len(path), len(rows)))
        state.update(path)
        state.update(rows)
    return state.hexdigest()


def encode(manifest: Manifest, known: Collection[bytes] = ()) -> bytes:
    """Return the manifest as bytes.

    A directory whose reference is in `known` is sent as that reference alone.
    """
    parts: List[bytes] = [
        _MAGIC,
        _HEAD.pack(manifest.mode, manifest.mtime_ns, len(manifest.directories)),
    ]
    for path in sorted(manifest.directories):
        rows = manifest.directories[path]
        if known:
            mark = reference(path, rows)
            if mark in known:
                parts.append(_ROW.pack(_REFERENCE, 0, len(mark)) + mark)
                continue
        parts.append(_ROW.pack(_WHOLE, len(path), len(rows)))
        parts.append(path)
        parts.append(rows)
    return b"".join(parts)


def decode(data: bytes, base: Manifest = EMPTY) -> Manifest:
    """Return the manifest of bytes from elsewhere, after checking every rule.

    References are looked up in `base`, which is trusted. In the result, no path leads out of the
    tree, every directory is an entry of its parent, and nothing comes twice. Raises `InvalidEntry`
    otherwise.
    """
    try:
        manifest, referenced = _decode(data, base)
    except struct.error as error:
        raise InvalidEntry("an incomplete manifest") from error
    check(manifest, referenced, base)
    return manifest


def decode_own(data: bytes) -> Manifest:
    """Return the manifest of bytes that `encode` made and a digest vouches for, unchecked."""
    return _decode(data, EMPTY)[0]


def _decode(data: bytes, base: Manifest) -> Tuple[Manifest, Set[bytes]]:
    if data[: len(_MAGIC)] != _MAGIC:
        raise InvalidEntry("not a manifest")
    position = len(_MAGIC)
    mode, mtime_ns, count = _HEAD.unpack_from(data, position)
    position += _HEAD.size
    by_reference: Dict[bytes, bytes] = references(base) if base.directories else {}
    directories: Dict[bytes, Listing] = {}
    referenced: Set[bytes] = set()
    for _ in range(count):
        kind, path_size, rows_size = _ROW.unpack_from(data, position)
        position += _ROW.size
        if kind == _WHOLE:
            path = data[position : position + path_size]
            position += path_size
            rows = data[position : position + rows_size]
        elif kind != _REFERENCE or path_size:
            raise InvalidEntry("neither a directory nor a reference to one")
        else:
            mark = data[position : position + rows_size]
            if mark not in by_reference:
                raise InvalidEntry("a reference to an unknown directory")
            path = by_reference[mark]
            rows = base.directories[path]
            referenced.add(path)
        position += rows_size
        if position > len(data) or path in directories:
            raise InvalidEntry("an incomplete manifest, or one with a directory twice")
        directories[path] = rows
    if position != len(data):
        raise InvalidEntry("a manifest with extra bytes")
    return Manifest(directories, mode, mtime_ns), referenced


def check(manifest: Manifest, trusted: Collection[bytes] = (), base: Manifest = EMPTY) -> None:
    """Raise `InvalidEntry` for a manifest that no scan could have made.

    Directories in `trusted` are the same in `base`, which is known to be sound, so they are not
    decoded again.
    """
    if manifest.mode & ~MODE_MASK:
        raise InvalidEntry(f"mode {manifest.mode:o} of the top directory")
    if b"" not in manifest.directories:
        raise InvalidEntry("a manifest without its top directory")
    expected = {b""}
    if trusted:
        expected.update(path for path in base.directories if path and split(path)[0] in trusted)
    count = 0
    for directory, rows in manifest.directories.items():
        if directory in trusted:
            continue
        entries = listings.decode_foreign(rows, ENTRIES_MAX - count)
        count += len(entries)
        for entry in entries:
            _check_length(directory, entry.name)
            if entry.kind == DIRECTORY:
                expected.add(join(directory, entry.name))
    if expected != set(manifest.directories):
        raise InvalidEntry("directories that do not match their parents' entries")


def _check_length(directory: bytes, name: bytes) -> None:
    if len(directory) + 1 + len(name) > PATH_MAX_BYTES:
        raise InvalidEntry(f"a path longer than {PATH_MAX_BYTES} bytes")
