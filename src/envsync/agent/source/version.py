"""A version of a source as scanned: its manifest and contents, here and relocated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Set, Tuple

from envsync.agent.server.reading import read_start
from envsync.agent.source.elf_files import ElfFiles, newest_glibc
from envsync.agent.source.softlinks import Softlink
from envsync.agent.source.source_paths import SourcePaths
from envsync.agent.source.verified_read import opened_source
from envsync.agent.trees.needle_search import NeedleSearch
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.stat_rows import may_hold_programs
from envsync.agent.trees.tree_caches import cache_start
from envsync.agent.wire.source_operations import RelocationFacts
from envsync.conda import outside
from envsync.tree.manifest import Manifest

if TYPE_CHECKING:
    # Loaded only for a target with another prefix.
    from envsync.agent.source.relocated import Relocated
    from envsync.agent.source.relocation_cache import RelocationCache
    from envsync.conda.needles import Needles
    from envsync.conda.relocation import Relocation


class SourceVersion:
    """A version that `SourceEnvironment.inspect` found; it does not notice later changes."""

    def __init__(
        self,
        paths: SourcePaths,
        snapshot: Snapshot,
        softlinks: Mapping[bytes, Softlink],
        search: Optional[NeedleSearch],
    ) -> None:
        """`search` has what was learned about the contents when they were hashed."""
        self._paths = paths
        self.snapshot = snapshot
        self.softlinks = softlinks
        self._search = search
        self._manifest: Optional[Manifest] = None
        self._made: Dict[str, Relocated] = {}

    @property
    def known_as(self) -> bytes:
        """The path that conda uses for it, and that is written into its files."""
        return self._paths.known_as

    @property
    def stands_at(self) -> bytes:
        """The path that conda uses, with symlinks resolved (see `SourcePaths`)."""
        return self._paths.stands_at

    @property
    def names(self) -> Tuple[bytes, ...]:
        """Every path by which its files may refer to it."""
        paths = (self.known_as, self.stands_at, *self._paths.earlier)
        return tuple(dict.fromkeys(paths))

    @property
    def rows(self) -> Mapping[bytes, bytes]:
        """The packed status of each directory's entries."""
        return self.snapshot.scan.directories

    def at(self, target_path: str) -> Optional[Relocated]:
        """Return what it becomes at `target_path`; "" means that the path stays the same.

        None if nothing changes: the path stays, and there are no links into a package cache, which
        are replaced by files at any path.
        """
        return self._relocated(target_path) if target_path or self.softlinks else None

    def manifest(self, target_path: str = "") -> Manifest:
        """Return its manifest, or what that becomes at `target_path`."""
        relocated = self.at(target_path)
        if relocated is not None:
            return relocated.manifest
        if self._manifest is None:
            self._manifest = self.snapshot.manifest()
        return self._manifest

    def relocation(self, target_path: str) -> Relocation:
        """Return the relocation to `target_path`; an empty one if it stays."""
        return self._paths.relocation(target_path)

    def relocation_facts(self, target_path: str) -> RelocationFacts:
        """Return the facts on what the tree becomes; if they are cached, no file is read."""
        if target_path not in self._made and not self.softlinks:
            before = self._cache(self.relocation(target_path)).rewrites()
            if before.facts is not None and before.source_revision == self.snapshot.revision:
                return before.facts
        return self._relocated(target_path).facts

    def rewritten(self, target_path: str) -> Set[bytes]:
        """Return the paths of files that are links here or have other contents at `target_path`."""
        relocated = self.at(target_path)
        return set() if relocated is None else relocated.paths

    def newest_glibc(self, *, with_packages: bool) -> Tuple[bytes, Tuple[int, ...]]:
        """Return the file that needs the newest glibc, and its version; (b"", ()) if none does."""
        return newest_glibc(self.elf_files(), with_packages=with_packages)

    def elf_files(self) -> ElfFiles:
        scanned = self.snapshot.scan
        worth = [path for path, rows in scanned.directories.items() if may_hold_programs(rows)]
        cache = cache_start(self._paths.cache_directory, (scanned.device, scanned.inode))
        return ElfFiles(self.manifest(), worth, self._place_of, cache)

    def _place_of(self, path: bytes) -> bytes:
        """Return the absolute path of the content of a file in the manifest."""
        softlink = self.softlinks.get(path)
        return os.path.join(self._paths.path, path) if softlink is None else softlink.place

    def _relocated(self, target_path: str) -> Relocated:
        """Return what it becomes there; it is made once."""
        if target_path not in self._made:
            from envsync.agent.source.relocated import Relocator

            relocation = self.relocation(target_path)
            cache, clean = self._cache(relocation), self._known_without(relocation.needles)
            with opened_source(self._paths.path) as top_fd:
                relocator = Relocator(
                    top_fd, self.snapshot, relocation, cache, clean, self.softlinks
                )
                self._made[target_path] = relocator.run()
        return self._made[target_path]

    def _known_without(self, needles: Needles) -> List[bytes]:
        """Return the keys of contents that were found, when they were hashed, to have no needle."""
        if self._search is None or self._search.needles != needles:
            return []
        from envsync.agent.source.relocation_cache import KEY_BYTES

        return [digest[:KEY_BYTES] for digest in self._search.without]

    def _cache(self, relocation: Relocation) -> RelocationCache:
        from envsync.agent.source.relocation_cache import RelocationCache

        scanned = self.snapshot.scan
        return RelocationCache(
            self._paths.cache_directory, scanned.device, scanned.inode, relocation.moves
        )

    def read(
        self, path: bytes, size_bytes_max: int = outside.LEAD_FILE_MAX_BYTES
    ) -> Optional[bytes]:
        """Return the content of a small file; None if it is larger or unreadable."""
        content = read_start(self._place_of(path), size_bytes_max + 1)
        return None if content is None or len(content) > size_bytes_max else content
