"""The environment's identity: what makes two trees the same version.

A revision is a digest over path, kind, owner-execute bit and content or link target. It does not
cover mtimes, other mode bits, owners or hard-link groups. Nor does it cover `__pycache__`
directories and the files in them whose source is in the manifest, because Python writes those by
itself wherever the environment is used. `.nfs*` names and what `local:` names are not in a manifest
to begin with.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import List, Mapping, Optional, Tuple

from envsync.tree import listing as listings
from envsync.tree.entry import DIRECTORY, FILE, Entry, split
from envsync.tree.listing import Listing
from envsync.tree.manifest import Manifest

SHOWN_DIGITS = 12
CACHE_DIRECTORY = b"__pycache__"
_REVISION = re.compile("[0-9a-f]{64}")
_TAG = re.compile(
    rb"(?!opt-)[a-z]+-?[0-9]+[a-z]*(?:-[0-9]+[a-z]*)?"  # cpython-311, pypy310, graalpy240-311
)
_CACHED = re.compile(
    rb"(.+)\." + _TAG.pattern + rb"(?:-pytest-[0-9].*?)?(?:\.opt-[12])?"
    rb"\.pyc(?:\.[0-9]+)?\Z",
    re.DOTALL,
)


def short(revision: str) -> str:
    """Return the revision as people see it."""
    return revision[:SHOWN_DIGITS]


def is_revision(text: str) -> bool:
    """Return whether a text, from a file that others may write, can be a revision."""
    return _REVISION.fullmatch(text) is not None


def source_of(name: bytes) -> Optional[bytes]:
    """Return the name of the source file that a file in `__pycache__` belongs to, or None.

    `spam.cpython-311.opt-1.pyc` belongs to `spam.py`. Python writes such a file under a name with a
    number after it and then renames it; a crash leaves the numbered name behind.
    """
    head, _, suffix = name.rpartition(b".")
    stem, _, tag = head.rpartition(b".")
    if suffix == b"pyc" and stem and _is_tag(tag):
        return stem + b".py"  # what _CACHED would find, at half the cost
    match = _CACHED.match(name)
    return match.group(1) + b".py" if match else None


@functools.lru_cache(maxsize=64)
def _is_tag(text: bytes) -> bool:
    """Return whether `text` names an interpreter, such as `cpython-311`.

    The result is cached because there are few tags and many files of each.
    """
    return _TAG.fullmatch(text) is not None


def counted(
    directories: Mapping[bytes, Listing], directory: bytes, entries: Tuple[Entry, ...]
) -> Tuple[Entry, ...]:
    """Return those of a directory's `entries`, as decoded, that are part of the revision."""
    parent, name = split(directory)
    if name == CACHE_DIRECTORY:
        sources = frozenset(listings.names(directories.get(parent, b"")))
        return tuple([e for e in entries if e.kind != FILE or source_of(e.name) not in sources])
    caches = [e for e in entries if e.name == CACHE_DIRECTORY and e.kind == DIRECTORY]
    return tuple([entry for entry in entries if entry not in caches]) if caches else entries


def directory_digest(directories: Mapping[bytes, Listing], directory: bytes) -> bytes:
    """Return the directory's part of the revision; empty if none of its entries counts."""
    return entries_digest(directories, directory, listings.decode(directories[directory]))


def entries_digest(
    directories: Mapping[bytes, Listing], directory: bytes, entries: Tuple[Entry, ...]
) -> bytes:
    """Return what `directory_digest` does, given the directory's `entries` already decoded."""
    parts: List[bytes] = []
    # The entry is unpacked at once because this runs for every entry of an environment, at both
    # ends.
    for entry_name, kind, mode, _, _, content, _ in counted(directories, directory, entries):
        is_executable = kind == FILE and mode & 0o100 != 0
        parts += (_start(kind, is_executable, len(entry_name), len(content)), entry_name, content)
    return hashlib.sha256(b"".join(parts)).digest() if parts else b""


@functools.lru_cache(maxsize=1024)
def _start(kind: int, is_executable: bool, name_bytes: int, content_bytes: int) -> bytes:
    """Return the bytes before an entry in a directory's digest; cached because many share them."""
    return b"%d %d %d %d\0" % (kind, is_executable, name_bytes, content_bytes)


def combine(digests: Mapping[bytes, bytes]) -> str:
    """Return the revision of the directories' digests, as 64 hex digits."""
    state = hashlib.sha256()
    for directory in sorted(digests):
        part = digests[directory]
        if part:
            state.update(b"%d\0" % len(directory))
            state.update(directory)
            state.update(part)
    return state.hexdigest()


def revision_of(manifest: Manifest) -> str:
    """Return the manifest's revision, as 64 hex digits."""
    directories = manifest.directories
    return combine({path: directory_digest(directories, path) for path in directories})
