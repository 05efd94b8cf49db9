"""The source's side of a push. Nothing here writes into the environment."""

from __future__ import annotations

import contextlib
import os
from typing import (
    TYPE_CHECKING,
    Callable,
    Collection,
    Dict,
    Iterable,
    Iterator,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from envsync.agent import glibc_needs
from envsync.agent.at_paths import AtPaths, Standing, toward
from envsync.agent.elf_files import ElfFiles, cache_start
from envsync.agent.facts import platform_facts
from envsync.agent.had_revisions import HadRevisions
from envsync.agent.hashing import Hashing
from envsync.agent.helper_processes import HelperProcesses
from envsync.agent.layout import base_layout, layout, require_live
from envsync.agent.listing_build import Build
from envsync.agent.locks import nonce_at
from envsync.agent.messages import (
    Finding,
    PlaceFacts,
    RelocationFacts,
    SampleFacts,
    SourceState,
    TotalsFacts,
)
from envsync.agent.outgoing import Progress, Search, outgoing
from envsync.agent.place import place_facts
from envsync.agent.scan import NO_HELPERS
from envsync.agent.scan_pass import Scan, open_directory
from envsync.agent.signs import busy_findings, installer_findings, mapping_findings
from envsync.agent.snapshot import Hashed, Snapshot, Trees
from envsync.agent.softlinks import Softlink, finding, softlinks
from envsync.agent.stat_rows import may_hold_programs
from envsync.agent.storage import require_good_disk
from envsync.agent.vouchers import NO_VOUCHERS
from envsync.conda import outside
from envsync.errors import SourceRefused
from envsync.tree import manifest as manifests
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest

if TYPE_CHECKING:
    # Loaded only for a target with another prefix.
    from envsync.conda.relocation import Relocation

Contents = Callable[..., Iterator[bytes]]
"""As `Source.contents`."""

HISTORY = b"conda-meta/history"
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Source:
    """One environment that versions are pushed from."""

    def __init__(
        self,
        prefix: str,
        name: str,
        local: Sequence[str],
        cache_directory: Optional[str],
        state_directory: Optional[str],
        helpers: HelperProcesses = NO_HELPERS,
        *,
        is_base: bool = False,
    ) -> None:
        self._places = base_layout(prefix) if is_base else layout(prefix, name)
        self._trees = Trees(cache_directory, LocalPaths(local), helpers)
        self._cache_directory = cache_directory
        self.had = HadRevisions(self._places, state_directory)
        self._elsewhere: Optional[AtPaths] = None
        self._softlinks: Dict[bytes, Softlink] = {}
        self._search: Optional[Search] = None
        self._snapshot: Optional[Snapshot] = None
        self._manifest: Optional[Manifest] = None
        self._hashed: Optional[Hashed] = None
        self._scanned: Optional[Scan] = None
        self._hashing = Hashing()

    @property
    def path(self) -> bytes:
        """Where the version is that stands there now: never a link."""
        return self._places.standing()

    @property
    def known_as(self) -> bytes:
        """The path by which conda knows it, and which is written into its files."""
        return self._places.path

    @property
    def stands_at(self) -> bytes:
        """The same path without links, which installers may have written into its files instead.

        A link of ours to one of its versions is no such link: nobody knows where that leads.
        """
        parent, name = os.path.split(self._places.live)
        return os.path.join(os.path.realpath(parent), name)

    @property
    def rows(self) -> Mapping[bytes, bytes]:
        """The packed status of each directory's entries, as the last `inspect` found them."""
        return self._found().scan.directories

    def place(self) -> Optional[PlaceFacts]:
        """What tells this place from every other; None where there is no environment."""
        return place_facts(self.path)

    def inspect(
        self,
        progress: Optional[Callable[[int], None]] = None,
        on_change: Callable[[], None] = lambda: None,
        *,
        fresh: bool = False,
    ) -> SourceState:
        """What the source is now, until `confirm` says that it was that while it was hashed.

        `fresh` believes nothing that was hashed before.

        `on_change` is called as soon as it is clear that something has to be hashed.
        Raises `NotFound` where there is no such environment, `SourceRefused` where it is no
        conda environment, goes on changing, or cannot be read.
        """
        require_live(self._places)
        if not os.path.isfile(os.path.join(self.path, HISTORY)):
            raise SourceRefused(
                "%s is no conda environment (it has no conda-meta/history)"
                % os.fsdecode(self._places.path),
                hint="`conda create -n %s` makes one" % self._places.name,
            )
        busy_before = installer_findings(self._places) + self._mapped()

        self._hashing = Hashing()

        def changed(scanned: Scan) -> None:
            self._scanned = scanned
            on_change()

        if fresh:
            snapshot, self._hashed = self._trees.snapshot(self.path, fresh=True), None
        else:
            snapshot, self._hashed = self._trees.unconfirmed(
                self.path,
                self._hashed,
                progress=progress,
                on_change=changed,
                hashing=self._hashing,
            )
        self._scanned = None
        self._snapshot, self._manifest = snapshot, None
        self._softlinks = softlinks(snapshot, self._places.path, self._cache_directory)
        self._elsewhere = AtPaths(
            Standing(self._places.path, self.path, self._cache_directory),
            snapshot,
            self._softlinks,
            self._search,
        )
        mapped = self._mapped()
        if mapped:
            self._believe_nothing()
        there = self._elsewhere.at("").facts if self._softlinks else None
        return SourceState(
            path=os.fsdecode(self._places.path),
            revision=snapshot.revision,
            revision_there=there.revision if there else snapshot.revision,
            totals=there.totals if there else TotalsFacts(*snapshot.totals),
            had=tuple(self.had.revisions()),
            findings=(
                busy_before
                + busy_findings(snapshot.scan, self._places)
                + mapped
                + _left_out(snapshot)
                + finding(self._softlinks)
            ),
            platform=platform_facts(),
            hashed_bytes=snapshot.hashed_bytes,
        )

    def outline(self) -> Optional[Tuple[SourceState, Manifest]]:
        """What is known before the files are hashed; None where that is done.

        May be called from another thread while `inspect` runs. The state has no revision,
        the manifest no contents (see `tree.outline`).
        """
        scanned = self._scanned
        if scanned is None:
            return None
        top_fd = open_directory(self.path)
        try:
            manifest = Build(top_fd, scanned, {}, NO_VOUCHERS, None).outline()
        finally:
            os.close(top_fd)
        state = SourceState(
            path=os.fsdecode(self._places.path),
            revision="",
            revision_there="",
            totals=TotalsFacts(*manifest.totals()),
            had=(),
            findings=installer_findings(self._places) + busy_findings(scanned, self._places),
            platform=platform_facts(),
            hashed_bytes=0,
        )
        return state, manifest

    def confirm(self) -> bool:
        """Whether a further stat pass equals that of `inspect`, and nobody is writing.

        A manifest counts only then: what was hashed had not changed when hashing was done.
        Where nothing had to be hashed, the one pass was equal to that of earlier times.
        """
        found = self._found()
        if self._hashed is None:
            return True
        if self._mapped():
            self._believe_nothing()
            return False
        if installer_findings(self._places):
            return False
        if self._trees.scan(self.path).signature != found.scan.signature:
            return False
        self._hashed.keep()
        self._hashed = None
        return True

    def _found(self) -> Snapshot:
        assert self._snapshot is not None, "inspect comes first"
        return self._snapshot

    def _mapped(self) -> Tuple[Finding, ...]:
        return mapping_findings(self.path, self._trees.local)

    def _believe_nothing(self) -> None:
        """What was hashed may have changed since, with the same times."""
        scanned = self._found().scan
        self._trees.cache(scanned.device, scanned.inode).forget()
        self._hashed = None

    def manifest(self, there: str = "") -> Manifest:
        """The manifest of the last `inspect`, or what it becomes at the path `there`.

        Links into a package cache are the files that they stand for, at any path.
        """
        if there or self._softlinks:
            return self._at_paths().at(there).manifest
        if self._manifest is None:
            self._manifest = self._found().manifest()
        return self._manifest

    def encoded_manifest(self, known: Collection[bytes] = (), there: str = "") -> bytes:
        return manifests.encode(self.manifest(there), known)

    def relocation(self, there: str) -> Relocation:
        """How its paths become those of the path `there`; empty where it stays."""
        return toward(self._places.path, there)

    def relocation_facts(self, there: str) -> RelocationFacts:
        """What the tree of the last `inspect` becomes at the path `there`."""
        return self._at_paths().facts(there)

    def rewritten(self, there: str) -> Set[bytes]:
        """The paths of the files whose contents are other ones at `there`, or no files here."""
        return self._at_paths().at(there).paths if there or self._softlinks else set()

    def _at_paths(self) -> AtPaths:
        assert self._elsewhere is not None, "inspect comes first"
        return self._elsewhere

    def newest_glibc(self) -> Tuple[bytes, Tuple[int, ...]]:
        """The file that needs the newest glibc, and that; a path of b"" where none needs any."""
        return glibc_needs.newest(self.elf_files())

    def elf_files(self) -> ElfFiles:
        """The binaries of the version that the last `inspect` found."""
        scanned = self._found().scan
        worth = [path for path, rows in scanned.directories.items() if may_hold_programs(rows)]
        cache = cache_start(self._cache_directory, scanned.device, scanned.inode)
        return ElfFiles(self.manifest(), worth, self._place_of, cache)

    def _place_of(self, path: bytes) -> bytes:
        """Where the content stands of a file of the manifest."""
        softlink = self._softlinks.get(path)
        return os.path.join(self.path, path) if softlink is None else softlink.place

    def read(self, path: bytes, size_bytes_max: int = outside.FILE_MAX_BYTES) -> Optional[bytes]:
        """A small file of the environment; None where it is large or unreadable."""
        place = self._place_of(path)
        with contextlib.suppress(OSError), open(os.open(place, _READ_FLAGS), "rb") as file:
            content = file.read(size_bytes_max + 1)
            return content if len(content) <= size_bytes_max else None
        return None

    def contents(
        self,
        items: Iterable[Tuple[bytes, int]],
        progress: Optional[Progress] = None,
        there: str = "",
    ) -> Iterator[bytes]:
        """The stream of these files' contents (see `outgoing`), as they are at `there`."""
        relocated = self._at_paths().at(there) if there or self._softlinks else None
        top_fd = open_directory(self.path)

        def instead(path: bytes) -> Optional[bytes]:
            if relocated is None or path not in relocated.paths:
                return None
            return relocated.rewrite(top_fd, path)

        try:
            yield from outgoing(top_fd, items, progress, instead=instead)
        finally:
            os.close(top_fd)

    def sampled(
        self, items: Sequence[Tuple[bytes, int]], steps: Sequence[Tuple[str, int]]
    ) -> SampleFacts:
        """What these files come to, compressed (see `sampling`); as they stand here."""
        from envsync.agent.sampling import sampled

        top_fd = open_directory(self.path)
        try:
            return sampled(top_fd, items, steps)
        finally:
            os.close(top_fd)

    @contextlib.contextmanager
    def hashing_while_sent(self, there: str = "") -> Iterator[Contents]:
        """`contents` that hash each file as it is read; an `inspect` under way waits until the end.

        So no file is read twice, and nobody else takes the processors from who sends. Where
        the environment will stand at the path `there`, it is known then which files name this
        one; the contents are those that stand here all the same.
        """
        self._search = Search(self.relocation(there).needles) if there else None
        with self._hashing.reading() as on_read:

            def contents(
                items: Iterable[Tuple[bytes, int]], progress: Optional[Progress] = None
            ) -> Iterator[bytes]:
                top_fd = open_directory(self.path)
                try:
                    yield from outgoing(top_fd, items, progress, on_read, search=self._search)
                finally:
                    os.close(top_fd)

            yield contents

    def require_readable(self, paths: Sequence[bytes]) -> None:
        """Raise `StorageFailed` where the disk does not give these files' contents."""
        top_fd = open_directory(self.path)
        try:
            require_good_disk(top_fd, paths)
        finally:
            os.close(top_fd)

    def sees(self, nonce: str) -> bool:
        """Whether a target's lock stands in this very place: a shared filesystem."""
        return bool(nonce) and nonce_at(self._places) == nonce


def _left_out(snapshot: Snapshot) -> Tuple[Finding, ...]:
    """Entries that cannot travel."""
    special = [
        Finding("special", "%s is a socket, pipe or device and is not sent" % os.fsdecode(path))
        for path in snapshot.scan.special
    ]
    foreign = [
        Finding("foreign", "%s is another filesystem mounted there" % os.fsdecode(path), True)
        for path in snapshot.scan.foreign
    ]
    return tuple(special + foreign)
