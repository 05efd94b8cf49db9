"""Searches contents for a few strings while they are read to be hashed or sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Set

if TYPE_CHECKING:
    # Needed only for a push to another prefix.
    from envsync.conda.needles import Needles


class NeedleSearch:
    """Strings to look for in what is read anyway, and the digests of contents without any."""

    def __init__(self, needles: Needles) -> None:
        self.needles = needles
        self.overlap_bytes = needles.longest_bytes()
        self.without: Set[bytes] = set()

    def is_in(self, content: bytes) -> bool:
        return bool(self.needles.found_in(content))
