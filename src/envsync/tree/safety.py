"""Rules about two states that stop a push until a person confirms; each is named and pure."""

from __future__ import annotations

from typing import NamedTuple, Optional

from envsync.tree.manifest import Totals

SHRINK_FRACTION = 0.5
SHRINK_FILES_MIN = 200
"""A source that lost more than half of its files, and at least this many, looks ruined. Removing
one large package (torch is 15,000 of 90,000 files) stays below it."""
EMPTIED_FRACTION = 0.1
EMPTIED_FILES_MIN = 10
"""A tree that had fewer files never counts as emptied. One that lost fewer than SHRINK_FILES_MIN
files is emptied if hardly anything is left of it."""


class Shrinkage(NamedTuple):
    """How much smaller the source is than what it would replace."""

    files_before: int
    files_now: int

    def __str__(self) -> str:
        files = "1 file" if self.files_now == 1 else f"{self.files_now:,} files"
        return f"it has {files}, but the target has {self.files_before:,}"


def shrinkage(source: Totals, target: Totals) -> Optional[Shrinkage]:
    """Return the loss if it is so large that the source is probably in ruins, else None."""
    before, now = target.files, source.files
    has_shrunk = before - now >= SHRINK_FILES_MIN and now < before * (1 - SHRINK_FRACTION)
    is_emptied = before >= EMPTIED_FILES_MIN and now <= before * EMPTIED_FRACTION
    return Shrinkage(before, now) if has_shrunk or is_emptied else None
