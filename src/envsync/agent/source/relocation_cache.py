"""Caches an environment's relocations on disk, so that no file is searched twice.

There are two files beside the content cache's, with the same kind of names, which are swept along
with it. They say which contents do not contain the old paths (`Searched`), and what the others
become at one path (`Rewrites`). The keys are digests, so they stay valid when timestamps change.
A damaged file counts as missing.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from envsync.agent.server.remembered_file import load, store
from envsync.agent.trees.tree_caches import cache_path
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.agent.wire.source_operations import RelocationFacts
from envsync.conda.relocated_records import Rewritten
from envsync.conda.relocation import Placeholder
from envsync.errors import AgentFailed
from envsync.tree.manifest import REFERENCE_BYTES

_MAGIC = b"envsync relocation 8\n"
KEY_BYTES = 16


class Searched(NamedTuple):
    """Directories (by reference) and contents (by truncated digest) without the old paths."""

    directories: Set[bytes]
    contents: Set[bytes]


class RewrittenRecords(NamedTuple):
    """The rewritten records of conda or pip; `basis` is a digest of the rewritten files."""

    basis: str
    files: Dict[bytes, Rewritten]


class Declared(NamedTuple):
    """What conda's records, whose digest was `basis`, said of contents with NULs, by digest."""

    basis: str
    rooms: Dict[bytes, Optional[Placeholder]]


class Rewrites(NamedTuple):
    """What an environment becomes at one path; `facts` are for `source_revision`.

    `files` and `problems` are by digest of the content. For a content with NULs they are valid
    as long as conda's records say of it what they said then (`declared`). The contents in `wide`
    keep containing old paths, in UTF-16 or UTF-32.
    """

    source_revision: str
    facts: Optional[RelocationFacts]
    files: Dict[bytes, Rewritten]
    problems: Dict[bytes, str]
    wide: Set[bytes]
    pip: RewrittenRecords
    conda: RewrittenRecords
    declared: Declared


NO_REWRITES = Rewrites(
    "", None, {}, {}, set(), RewrittenRecords("", {}), RewrittenRecords("", {}), Declared("", {})
)


class RelocationCache:
    """The two files for one tree and one relocation. Neither reading nor writing raises OSError."""

    def __init__(
        self,
        directory: Optional[str],
        device: int,
        inode: int,
        moves: Iterable[Tuple[bytes, bytes]],
    ) -> None:
        pairs = list(moves)
        path_of = partial(cache_path, directory, (device, inode))
        self._searched = path_of(_key([old for old, _ in pairs]))
        self._rewrites = path_of(_key([path for pair in pairs for path in pair]))

    def searched(self) -> Searched:
        body = load(self._searched, _MAGIC)
        if body is None or len(body) < REFERENCE_BYTES:
            return Searched(set(), set())
        count = int.from_bytes(body[:REFERENCE_BYTES], "little") * REFERENCE_BYTES
        middle = REFERENCE_BYTES + count
        return Searched(
            _cut(body[REFERENCE_BYTES:middle], REFERENCE_BYTES), _cut(body[middle:], KEY_BYTES)
        )

    def rewrites(self) -> Rewrites:
        body = load(self._rewrites, _MAGIC)
        if body is None:
            return NO_REWRITES
        try:
            return _parsed(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AgentFailed):
            return NO_REWRITES

    def store_searched(self, searched: Searched) -> None:
        count = len(searched.directories).to_bytes(REFERENCE_BYTES, "little")
        store(self._searched, _MAGIC, b"".join([count, *searched.directories, *searched.contents]))

    def store_rewrites(self, rewrites: Rewrites) -> None:
        document = _plain(rewrites._replace(facts=to_json(rewrites.facts)))
        store(self._rewrites, _MAGIC, json.dumps(document).encode())


def _plain(value: Any) -> Any:
    """Return a value for JSON: tuples and sets as lists, bytes as hexadecimal digits."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, set)):
        return [_plain(part) for part in value]
    return value


def _parsed(document: Any) -> Rewrites:
    """Return what `_plain` was given; `checked_json` would take too long for so many rows."""
    revision, facts, files, problems, wide, pip, conda, declared = document
    return Rewrites(
        revision,
        None if facts is None else from_json(RelocationFacts, facts),
        _files(files),
        _by_digest(problems),
        set(map(bytes.fromhex, wide)),
        RewrittenRecords(pip[0], _files(pip[1])),
        RewrittenRecords(conda[0], _files(conda[1])),
        Declared(
            declared[0],
            {
                digest: None if room is None else Placeholder(*room)
                for digest, room in _by_digest(declared[1]).items()
            },
        ),
    )


def _files(rows: Dict[str, List[Any]]) -> Dict[bytes, Rewritten]:
    return {
        bytes.fromhex(old): Rewritten(old_size_bytes, bytes.fromhex(new), size_bytes)
        for old, (old_size_bytes, new, size_bytes) in rows.items()
    }


def _by_digest(rows: Dict[str, Any]) -> Dict[bytes, Any]:
    return {bytes.fromhex(digest): row for digest, row in rows.items()}


def _cut(body: bytes, size_bytes: int) -> Set[bytes]:
    return {body[at : at + size_bytes] for at in range(0, len(body), size_bytes)}


def _key(paths: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(paths)).hexdigest()[:20]
