"""The paths of a source, and its relocations from there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    # Loaded only for a target with another prefix.
    from envsync.conda.relocation import Relocation


class SourcePaths(NamedTuple):
    """The paths of a source on this machine, and the user's cache directory.

    `known_as` is the path that conda uses. `stands_at` is that with symlinks resolved, which
    installers may have written into files instead; only if the environment itself is envsync's
    link to a version (`path`), that link is not resolved, as its target is in no file.

    `earlier` are the paths where the environment was before it was packed.
    """

    known_as: bytes
    stands_at: bytes
    path: bytes
    cache_directory: Optional[str]
    earlier: Tuple[bytes, ...] = ()

    def relocation(self, target_path: str) -> Relocation:
        """Return the relocation to `target_path`; an empty one if that is ""."""
        from envsync.conda.base_prefix import base_of
        from envsync.conda.relocation import Relocation, between

        if not target_path:
            return Relocation(())
        # Files may contain the path that conda uses or the real one, of the environment and of
        # base.
        base = base_of(self.known_as)
        return between(
            self.known_as,
            self.stands_at,
            os.fsencode(target_path),
            real_base=os.path.realpath(base) if base else b"",
            earlier=self.earlier,
        )
