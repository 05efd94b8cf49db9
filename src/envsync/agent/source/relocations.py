"""The relocations of a source's version to other paths, each made when first needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional, Tuple

from envsync.agent.source.softlinks import Softlink
from envsync.agent.source.verified_read import opened_source
from envsync.agent.trees.outgoing import NeedleSearch
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.source_operations import RelocationFacts

if TYPE_CHECKING:
    # Loaded only for a target with another prefix.
    from envsync.agent.source.relocated import Relocated
    from envsync.agent.source.relocation_cache import RelocationCache
    from envsync.conda.needles import Needles
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


def relocation_to(paths: SourcePaths, target_path: str) -> Relocation:
    """Return the relocation from these paths to `target_path`; an empty one if that is ""."""
    from envsync.conda.base_prefix import base_of
    from envsync.conda.relocation import Relocation, between

    if not target_path:
        return Relocation(())
    # Files may contain the path that conda uses or the real one, of the environment and of base.
    known_as = paths.known_as
    base = base_of(known_as)
    return between(
        known_as,
        paths.stands_at,
        os.fsencode(target_path),
        real_base=os.path.realpath(base) if base else b"",
        earlier=paths.earlier,
    )


class Relocations:
    """The relocations of one snapshot.

    The path "" means that it stays where it is, and only its soft links are replaced by files.
    """

    def __init__(
        self,
        paths: SourcePaths,
        snapshot: Snapshot,
        softlinks: Mapping[bytes, Softlink],
        search: Optional[NeedleSearch],
    ) -> None:
        """`search` has what was learned about the contents when they were sent ahead."""
        self._paths = paths
        self._snapshot = snapshot
        self._softlinks = dict(softlinks)
        self._search = search
        self._made: Dict[str, Relocated] = {}

    def facts(self, target_path: str) -> RelocationFacts:
        """Return the facts of a relocation; if they are cached, no file is read."""
        if target_path not in self._made and not self._softlinks:
            before = self._cache(relocation_to(self._paths, target_path)).rewrites()
            if before.facts is not None and before.source_revision == self._snapshot.revision:
                return before.facts
        return self.at(target_path).facts

    def at(self, target_path: str) -> Relocated:
        """Return the version relocated to that path; it is made once."""
        if target_path not in self._made:
            from envsync.agent.source.relocated import Relocator

            relocation = relocation_to(self._paths, target_path)
            cache = self._cache(relocation)
            with opened_source(self._paths.path) as top_fd:
                clean = self._known_without(relocation.needles)
                relocator = Relocator(
                    top_fd, self._snapshot, relocation, cache, clean, self._softlinks
                )
                self._made[target_path] = relocator.run()
        return self._made[target_path]

    def _known_without(self, needles: Needles) -> List[bytes]:
        """Return the keys of contents that were found, when they were sent, to have no needle."""
        if self._search is None or self._search.needles != needles:
            return []
        from envsync.agent.source.relocation_cache import KEY_BYTES

        return [digest[:KEY_BYTES] for digest in self._search.without]

    def _cache(self, relocation: Relocation) -> RelocationCache:
        from envsync.agent.source.relocation_cache import RelocationCache

        scanned = self._snapshot.scan
        return RelocationCache(
            self._paths.cache_directory, scanned.device, scanned.inode, relocation.moves
        )
