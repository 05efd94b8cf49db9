"""The source's side of a push, which never writes into the environment."""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Iterable, Iterator, Optional, Sequence, Tuple

from envsync.agent.places.busy_findings import (
    busy_findings,
    installer_findings,
    mapping_findings,
    unseen_findings,
)
from envsync.agent.places.directory_identity import directory_identity
from envsync.agent.places.layout import layout_of, require_live
from envsync.agent.places.local_environment import local_environment
from envsync.agent.places.locks import nonce_at
from envsync.agent.places.prefix_environments import has_history, prefix_environments
from envsync.agent.places.revision_history import RevisionHistory
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.server.machine import platform_facts
from envsync.agent.server.progress import ContentsProgress, Progress
from envsync.agent.source.softlinks import finding, softlinks
from envsync.agent.source.source_paths import SourcePaths
from envsync.agent.source.source_state import (
    left_out,
    source_revision,
    state_of,
)
from envsync.agent.source.verified_read import opened_source
from envsync.agent.source.version import SourceVersion
from envsync.agent.trees.hashing import Hashing
from envsync.agent.trees.listing_build import ListingBuild
from envsync.agent.trees.needle_search import NeedleSearch
from envsync.agent.trees.outgoing import outgoing
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.stable_hashing import Hashed
from envsync.agent.trees.unreadable_paths import require_good_disk
from envsync.agent.trees.written_digests import NO_WRITTEN_DIGESTS
from envsync.agent.wire.messages import DirectoryIdentity, Finding, SourceState
from envsync.agent.wire.source_operations import SampleFacts
from envsync.conda.metadata import HISTORY
from envsync.conda.platform_needs import Platform
from envsync.errors import NotFound, SourceRefused, listed
from envsync.tree.manifest import Manifest

ReadContents = Callable[..., Iterator[bytes]]
"""Takes items and an optional progress callback, and yields the stream of their contents."""


class SourceEnvironment:
    """An environment whose versions are pushed.

    After the first `inspect`, `version` is what was found. Contents are always read from the
    environment as it is now.
    """

    def __init__(
        self,
        prefix: str,
        name: str,
        local: Sequence[str],
        cache_directory: Optional[str],
        state_directory: Optional[str],
        helpers: HelperProcesses = NO_HELPERS,
    ) -> None:
        """With the name `base`, it is the prefix itself."""
        # It may be a version that was published here.
        self._environment = local_environment(
            layout_of(prefix, name), local, cache_directory, helpers
        )
        self._layout, _, self._trees = self._environment
        self._cache_directory = cache_directory
        self.history = RevisionHistory(self._layout, state_directory)
        self._search: Optional[NeedleSearch] = None
        self._version: Optional[SourceVersion] = None
        self._hashed: Optional[Hashed] = None
        self._scanned: Optional[Scan] = None
        self._hashing = Hashing()
        self._earlier: Tuple[bytes, ...] = ()
        self._packed_for: Optional[Platform] = None

    def was_packed(self, earlier: Tuple[bytes, ...], platform: Optional[Platform]) -> None:
        """Say, before `inspect`, at which paths it was before it was packed.

        `platform` is the one it was made for, if not this machine's.
        """
        self._earlier, self._packed_for = earlier, platform

    @property
    def path(self) -> bytes:
        """The path of the live version, which is never a symlink."""
        return self._layout.standing()

    @property
    def version(self) -> SourceVersion:
        """The version that the last `inspect` found."""
        assert self._version is not None, "inspect comes first"
        return self._version

    @property
    def stands_at(self) -> bytes:
        """See `SourcePaths.stands_at`."""
        parent, name = os.path.split(self._layout.live)
        return os.path.join(os.path.realpath(parent), name)

    def identity(self) -> Optional[DirectoryIdentity]:
        """Return what identifies this directory; None if there is no environment."""
        return directory_identity(self.path)

    def inspect(
        self,
        progress: Optional[Progress] = None,
        on_change: Callable[[], None] = lambda: None,
        *,
        fresh: bool = False,
        target_path: str = "",
    ) -> SourceState:
        """Return the source's state, which is provisional until `confirm` returns True.

        `on_change` is called as soon as it is clear that something has to be hashed. With `fresh`,
        all earlier hashes are ignored, and `on_change` is not called. If the environment will be
        at `target_path` somewhere, contents are searched for its present path as they are hashed.
        Raises `NotFound` if there is no such environment, and `SourceRefused` if it is no conda
        environment, keeps changing, or cannot be read.
        """
        self._require_environment()
        self._search_for(target_path)
        busy_before = installer_findings(self._layout) + self._mapped()
        snapshot = self._looked(progress, on_change, fresh=fresh)
        paths = self._paths()
        links = softlinks(snapshot, paths.known_as, self._cache_directory)
        self._version = SourceVersion(paths, snapshot, links, self._search)
        mapped = self._mapped()
        if mapped:
            self._believe_nothing()
        findings = busy_before + busy_findings(snapshot.scan, self._layout) + mapped
        return state_of(
            self._layout.path,
            self._version,
            source_revision(self._environment, snapshot),
            self.history,
            findings
            + unseen_findings("whether an installer is at work in the source")
            + left_out(snapshot.scan)
            + finding(links),
            self._platform(),
        )

    def _search_for(self, target_path: str) -> None:
        if target_path:
            needles = self._paths().relocation(target_path).needles
            if self._search is None or self._search.needles != needles:
                self._search = NeedleSearch(needles)

    def _paths(self) -> SourcePaths:
        return SourcePaths(
            self._layout.path, self.stands_at, self.path, self._cache_directory, self._earlier
        )

    def _require_environment(self) -> None:
        try:
            require_live(self._layout)
        except NotFound as error:
            names = sorted(prefix_environments(os.fsdecode(self._layout.prefix)).live)
            envs = os.path.dirname(self._layout.live)
            there = [name for name in names if has_history(os.path.join(envs, os.fsencode(name)))]
            error.details = (*error.details, *([f"there: {listed(there)}"] if there else ()))
            raise
        if not os.path.isfile(os.path.join(self.path, HISTORY)):
            raise SourceRefused(
                f"{os.fsdecode(self._layout.path)} is not a conda environment "
                "(it has no conda-meta/history)",
                hint=f"`conda create -n {self._layout.name}` makes it one; "
                "`envsync remove` takes it from servers; --allow-shrink does not push it",
            )

    def _looked(
        self,
        progress: Optional[Progress],
        on_change: Callable[[], None],
        *,
        fresh: bool,
    ) -> Snapshot:
        """Return a snapshot; unless `fresh`, its hashes are stored only by `confirm`."""
        self._hashing = Hashing(self._search)
        if fresh:
            snapshot = self._trees.snapshot(self.path, fresh=True, progress=progress)
            self._hashed = None
            return snapshot

        def changed(scanned: Scan) -> None:
            self._scanned = scanned
            on_change()

        try:
            snapshot, self._hashed = self._trees.unconfirmed(
                self.path,
                self._hashed,
                progress=progress,
                on_change=changed,
                hashing=self._hashing,
            )
        finally:
            self._scanned = None
        return snapshot

    def _platform(self) -> Platform:
        return self._packed_for or platform_facts()

    def outline(self) -> Optional[Tuple[SourceState, Manifest]]:
        """Return what is known before the files are hashed; None when no hashing is under way.

        May be called from another thread while `inspect` runs. The state has no revision,
        the manifest no contents (see `tree.outline`).
        """
        scanned = self._scanned
        if scanned is None:
            return None
        # The caller waits for the outline, while nobody waits for the hashes yet.
        with self._hashing.going_first():
            with opened_source(self.path) as top_fd:
                build = ListingBuild(top_fd, scanned.directories, {}, NO_WRITTEN_DIGESTS, None)
                manifest, totals = build.outline(scanned)
            findings = installer_findings(self._layout) + busy_findings(scanned, self._layout)
            path = os.fsdecode(self._layout.path)
            return SourceState(path, totals, findings, self._platform()), manifest

    def confirm(self) -> bool:
        """Return whether a further stat pass equals that of `inspect`, and nobody is writing.

        Only then does the manifest count, because no file changed while it was hashed. If nothing
        had to be hashed, no further pass is made: the one of `inspect` equalled the cached one.
        """
        if self._hashed is None:
            return True
        if self._mapped():
            self._believe_nothing()
            return False
        if installer_findings(self._layout):
            return False
        before = self.version.snapshot.scan
        try:
            again = self._trees.scan_again(self.path, before)
        except (FileNotFoundError, NotADirectoryError):
            return False  # the next `inspect` says that it is gone
        if again.signature != before.signature:
            return False
        self._hashed.store()
        self._hashed = None
        return True

    def _mapped(self) -> Tuple[Finding, ...]:
        return mapping_findings(self.path, self._trees.local)

    def _believe_nothing(self) -> None:
        """Discard all hashes: a mapped file can change without a new timestamp."""
        scanned = self.version.snapshot.scan
        self._trees.cache(scanned.device, scanned.inode).forget()
        self._hashed = None

    def contents(
        self,
        items: Iterable[Tuple[bytes, int]],
        progress: Optional[ContentsProgress] = None,
        target_path: str = "",
    ) -> Iterator[bytes]:
        """Yield the stream of these files' contents (see `outgoing`), relocated to `target_path`.

        If they are the same there as here, `inspect` is not needed first.
        """
        with opened_source(self.path) as top_fd:
            instead = self._substitutes(top_fd, target_path)
            yield from outgoing(top_fd, items, progress, instead=instead)

    def sampled(
        self,
        items: Sequence[Tuple[bytes, int]],
        steps: Sequence[Tuple[str, int]],
        *,
        target_path: str = "",
    ) -> SampleFacts:
        """Return what `contents` of these files comes to, compressed; see `sampling`."""
        from envsync.agent.source.sampling import sampled

        with opened_source(self.path) as top_fd:
            return sampled(top_fd, items, steps, self._substitutes(top_fd, target_path))

    def _substitutes(self, top_fd: int, target_path: str) -> Callable[[bytes], Optional[bytes]]:
        """Return what makes the contents of files that are others at `target_path`."""
        has_looked = self._version is not None
        relocated = self.version.at(target_path) if target_path or has_looked else None

        def instead(path: bytes) -> Optional[bytes]:
            if relocated is None or path not in relocated.paths:
                return None
            return relocated.rewrite(top_fd, path)

        return instead

    @contextlib.contextmanager
    def hashing_while_sent(self) -> Iterator[ReadContents]:
        """Within the block, provide a `contents` that hashes each file as it is read.

        An `inspect` under way starts no hashing of its own until the block ends, and waits
        altogether until the contents are first read, while the sender is still preparing. So no
        file is read twice, and nothing competes with the sender for processors.

        Contents are sent unchanged, whatever the environment's path will be there.
        """
        with self._hashing.reading() as on_read, contextlib.ExitStack() as preparing:
            preparing.enter_context(self._hashing.going_first())

            def contents(
                items: Iterable[Tuple[bytes, int]], progress: Optional[ContentsProgress] = None
            ) -> Iterator[bytes]:
                preparing.close()
                with opened_source(self.path) as top_fd:
                    search = self._hashing.search
                    yield from outgoing(top_fd, items, progress, on_read, search=search)

            yield contents

    def require_readable(self, paths: Sequence[bytes]) -> None:
        """Raise `StorageFailed` if the disk fails to read some of these files."""
        with opened_source(self.path) as top_fd:
            require_good_disk(top_fd, paths)

    def sees(self, nonce: str) -> bool:
        """Return whether a target's lock is visible here, which means a shared filesystem."""
        return bool(nonce) and nonce_at(self._layout) == nonce
