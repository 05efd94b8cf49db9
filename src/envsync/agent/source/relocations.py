"""The relocations of a source's version to other paths, each made when first asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional, Tuple

from envsync.agent.source.softlinks import Softlink
from envsync.agent.source.verified_read import opened_source
from envsync.agent.trees.outgoing import Search
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import RelocationFacts

if TYPE_CHECKING:
    # Loaded only for a target with another prefix.
    from envsync.agent.source.relocated import Relocated
    from envsync.agent.source.relocation_cache import RelocationCache
    from envsync.conda.needles import Needles
    from envsync.conda.relocation import Relocation


class SourcePaths(NamedTuple):
    """The paths of a source here: as conda knows it, in fact, and where the user's cache is.

    `stands_at` is the path that conda knows without links, which installers may have written
    into its files instead; but for a link of ours to one of its versions (`path`): nobody
    knows where that leads.

    `earlier` are the paths where it stood before it was packed.
    """

    known_as: bytes
    stands_at: bytes
    path: bytes
    cache_directory: Optional[str]
    earlier: Tuple[bytes, ...] = ()


def relocation_to(paths: SourcePaths, there: str) -> Relocation:
    """The relocation from these paths to the path `there`; empty where it stays."""
    from envsync.conda.base_prefix import base_of
    from envsync.conda.relocation import Relocation, between

    if not there:
        return Relocation(())
    # By the name that conda knows it by, and by the directory's own.
    known_as = paths.known_as
    base = base_of(known_as)
    return between(
        known_as,
        paths.stands_at,
        os.fsencode(there),
        real_base=os.path.realpath(base) if base else b"",
        earlier=paths.earlier,
    )


class Relocations:
    """The relocations of one snapshot. The path "" means: it stays, and only its soft links become
    files."""

    def __init__(
        self,
        paths: SourcePaths,
        snapshot: Snapshot,
        softlinks: Mapping[bytes, Softlink],
        search: Optional[Search],
    ) -> None:
        """`search` is what was learnt of the contents when they were sent ahead."""
        self._paths = paths
        self._snapshot = snapshot
        self._softlinks = dict(softlinks)
        self._search = search
        self._made: Dict[str, Relocated] = {}

    def facts(self, there: str) -> RelocationFacts:
        """The facts of a relocation; where they are cached, no file is read."""
        if there not in self._made and not self._softlinks:
            before = self._cache(relocation_to(self._paths, there)).rewrites()
            if before.facts is not None and before.source_revision == self._snapshot.revision:
                return before.facts
        return self.at(there).facts

    def at(self, there: str) -> Relocated:
        """The version at that path; made once."""
        if there not in self._made:
            from envsync.agent.source.relocated import Relocator

            relocation = relocation_to(self._paths, there)
            cache = self._cache(relocation)
            with opened_source(self._paths.path) as top_fd:
                clean = self._known_without(relocation.needles)
                relocator = Relocator(
                    top_fd, self._snapshot, relocation, cache, clean, self._softlinks
                )
                self._made[there] = relocator.run()
        return self._made[there]

    def _known_without(self, needles: Needles) -> List[bytes]:
        """Keys of contents that have none of these, by what was seen when they were sent."""
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
