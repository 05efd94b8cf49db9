"""Rules about two states that stop a push until a person confirms; each is named and pure.

Each returns in words why the source is probably in ruins, or "".
"""

from __future__ import annotations

import hashlib
from typing import Dict

from envsync.texts.sizes import size
from envsync.tree.entry import FILE, Entry
from envsync.tree.listing import that_may_hold
from envsync.tree.manifest import Manifest, Totals

SHRINK_FRACTION = 0.5
SHRINK_FILES_MIN = 100
"""A source that lost more than half of its files, and at least this many, looks ruined. Removing
one large package (torch is 15,000 of 90,000 files) stays below it. Python alone is more than 1,000
files: an environment of a few hundred has few tools, and to remove most of them is rare."""
EMPTIED_FRACTION = 0.25
EMPTIED_FILES_MIN = 10
"""One that lost fewer looks ruined if no more than a quarter is left. A tree that had fewer than
EMPTIED_FILES_MIN files never does: one of its packages may have had almost all of them."""


HOLLOW_FRACTION = 0.01
HOLLOW_WHOLE_FRACTION = 0.1
HOLLOW_BYTES_MIN = 100_000
"""A power cut or a full disk leaves files without contents. A source with at most HOLLOW_FRACTION
of the bytes looks ruined: without the largest packages, Python alone is more. If no file is gone,
HOLLOW_WHOLE_FRACTION of the bytes is enough. A tree that had fewer than HOLLOW_BYTES_MIN never
counts.
"""

HOLLOW_FILES_MIN = 20
MAY_BE_EMPTIED = b"__init__.py"
"""No install leaves dozens of files empty that had content at the same path before. Only of files
with this name does an upgrade empty many: of all in a package, when a licence's text goes."""

_EMPTY = hashlib.sha256().digest()
_RECORDS = b"conda-meta"


def shrinkage(source: Totals, target: Totals) -> str:
    """Say that too little is left of what the target has, by the totals of both."""
    before, now = target.files, source.files
    has_shrunk = before - now >= SHRINK_FILES_MIN and now < before * (1 - SHRINK_FRACTION)
    is_emptied = before >= EMPTIED_FILES_MIN and now <= before * EMPTIED_FRACTION
    if has_shrunk or is_emptied:
        files = f"{now:,} file{'' if now == 1 else 's'}"
        return _ruined(f"it has {files}, but the target has {before:,}")
    fraction = HOLLOW_WHOLE_FRACTION if now >= before else HOLLOW_FRACTION
    bytes_before, bytes_now = target.size_bytes, source.size_bytes
    if bytes_before >= HOLLOW_BYTES_MIN and bytes_now <= bytes_before * fraction:
        return _ruined(f"it has {size(bytes_now)}, but the target has {size(bytes_before)}")
    return ""


def hollowness(source: Manifest, target: Manifest) -> str:
    """Say that files of the target are there, but empty, or that no package record is left."""
    emptied = _emptied(source, target)
    if emptied >= HOLLOW_FILES_MIN:
        return _ruined(f"{emptied:,} files are empty that have content on the target")
    records = _records(target)
    if records and not _records(source):
        return _ruined(f"it has no package record in conda-meta, but the target has {records:,}")
    return ""


def _emptied(source: Manifest, target: Manifest) -> int:
    """Return how many files have content in the target alone; most directories are not decoded."""
    there, count = target.directories, 0
    different = {
        path: rows for path, rows in source.directories.items() if there.get(path, rows) != rows
    }
    for path, _ in that_may_hold(different, (_EMPTY,)):
        before = _files(target, path)
        count += sum(
            name != MAY_BE_EMPTIED and not entry.size_bytes and before[name].size_bytes > 0
            for name, entry in _files(source, path).items()
            if name in before
        )
    return count


def _files(manifest: Manifest, directory: bytes) -> Dict[bytes, Entry]:
    return {entry.name: entry for entry in manifest.entries(directory) if entry.kind == FILE}


def _records(manifest: Manifest) -> int:
    """Return how many of conda's records of packages there are, not counting empty ones."""
    return sum(
        entry.size_bytes > 0 and name.endswith(b".json")
        for name, entry in _files(manifest, _RECORDS).items()
    )


def _ruined(how: str) -> str:
    return f"the source looks ruined: {how}"
