"""Rules about two states that stop a push until a person confirms; each is named and pure."""

from __future__ import annotations

from envsync.texts.sizes import size
from envsync.tree.manifest import Totals

SHRINK_FRACTION = 0.5
SHRINK_FILES_MIN = 200
"""A source that lost more than half of its files, and at least this many, looks ruined. Removing
one large package (torch is 15,000 of 90,000 files) stays below it."""
EMPTIED_FRACTION = 0.1
EMPTIED_FILES_MIN = 10
"""A tree that had fewer files never counts as emptied. One that lost fewer than SHRINK_FILES_MIN
files is emptied if hardly anything is left of it."""


HOLLOW_FRACTION = 0.01
HOLLOW_BYTES_MIN = 100_000
"""A power cut or a full disk leaves files without contents. A source with at most HOLLOW_FRACTION
of the bytes looks ruined: without the largest packages, Python alone is more. If no file is gone,
EMPTIED_FRACTION of the bytes is enough. A tree that had fewer than HOLLOW_BYTES_MIN never counts.
"""


def shrinkage(source: Totals, target: Totals) -> str:
    """Return in words how much the source lost, if it is probably in ruins, else ""."""
    before, now = target.files, source.files
    has_shrunk = before - now >= SHRINK_FILES_MIN and now < before * (1 - SHRINK_FRACTION)
    is_emptied = before >= EMPTIED_FILES_MIN and now <= before * EMPTIED_FRACTION
    if has_shrunk or is_emptied:
        return f"it has {now:,} file{'' if now == 1 else 's'}, but the target has {before:,}"
    fraction = EMPTIED_FRACTION if now >= before else HOLLOW_FRACTION
    bytes_before, bytes_now = target.size_bytes, source.size_bytes
    if bytes_before >= HOLLOW_BYTES_MIN and bytes_now <= bytes_before * fraction:
        return f"it has {size(bytes_now)}, but the target has {size(bytes_before)}"
    return ""
