"""Finds contents on this server to reuse: in other environments, earlier versions, conda's cache.

Records and notes only suggest which file to try: each is hashed while it is copied, and if it has
other content, the source sends the file after all.
"""

from __future__ import annotations

import contextlib
import os
from typing import (
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from envsync.agent.places.layout import STATE_DIRECTORY, Layout, environment_layout
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.records import Records
from envsync.agent.server.reading import read_start
from envsync.agent.staging.build_plan import Holding
from envsync.conda import installer_digests
from envsync.conda.manifest_packages import metadata_paths
from envsync.conda.metadata import CONDA_RECORD, is_python
from envsync.errors import PreflightRefused
from envsync.tree.entry import join, split
from envsync.tree.environment_name import is_environment_name
from envsync.tree.manifest import Manifest

REUSE_BYTES_MIN = 1 << 20
"""Looking elsewhere is not worthwhile for less."""

CANDIDATES_MAX = 6
"""The number of trees to search, those with the most packages in common first."""

_NOTE_BYTES_MAX = 64 << 20


class ContentPaths(NamedTuple):
    """One path for each content that a tree seems to have."""

    by_content: Dict[bytes, bytes]

    def places(self, contents: Collection[bytes]) -> Dict[bytes, Set[bytes]]:
        return {content: {path} for content, path in self.by_content.items() if content in contents}


class SearchableTree(NamedTuple):
    """A tree to search. `packages` are the paths in it that show which packages it has."""

    path: bytes
    name: str
    packages: FrozenSet[bytes]


class Alike(NamedTuple):
    """A published tree other than the live version; `is_close` if it has few other packages."""

    path: bytes
    name: str
    manifest: Manifest
    is_close: bool


class Elsewhere:
    """The other trees of a prefix, besides one live version; nothing is changed in them."""

    def __init__(self, environment: LocalEnvironment) -> None:
        self._prefix = environment.layout.prefix
        self._layout, _, self._trees = environment
        self._seen: Optional[Tuple[SearchableTree, ...]] = None

    def has_most_of(self, packages: FrozenSet[bytes]) -> bool:
        """Return whether some tree or the package cache has half of these packages, by name."""
        if self._with_half(packages):
            return True
        cached = sum(1 for package in packages if self._is_cached(package))
        return bool(packages) and 2 * cached >= len(packages)

    def _with_half(self, packages: FrozenSet[bytes]) -> List[SearchableTree]:
        half = len(packages) / 2
        return [tree for tree in self._ranked(packages) if len(tree.packages & packages) >= half]

    def likeliest(self, packages: FrozenSet[bytes]) -> Optional[Alike]:
        """Return the published tree with most of these packages; None if none has half."""
        for candidate in self._with_half(packages):
            published = self._published(candidate)
            if published is not None:
                is_close = 2 * len(candidate.packages - packages) <= len(packages)
                return Alike(candidate.path, candidate.name, published, is_close)
        return None

    def holdings(self, wanted: Manifest, lacking: Collection[bytes]) -> Iterator[Holding]:
        """Yield trees that seem to have some of the `lacking` contents, the likeliest first."""
        packages, left = metadata_paths(wanted), set(lacking)
        for candidate in self._ranked(packages):
            yield from _holding(candidate.path, candidate.name, self._known(candidate, left), left)
        cache = os.path.join(self._prefix, b"pkgs")
        yield from _holding(cache, "the package cache", self._cached(packages, left), left)

    def _ranked(self, packages: FrozenSet[bytes]) -> List[SearchableTree]:
        ranked = [c for c in self._candidates() if c.packages & packages]
        ranked.sort(key=lambda c: (-len(c.packages & packages), c.path))
        return ranked[:CANDIDATES_MAX]

    def _candidates(self) -> Tuple[SearchableTree, ...]:
        if self._seen is None:
            self._seen = tuple(self._look())
        return self._seen

    def _look(self) -> Iterator[SearchableTree]:
        """Yield every other live environment, and every earlier version of any environment."""
        envs = os.path.join(self._prefix, b"envs")
        state = os.path.join(envs, STATE_DIRECTORY)
        names = {os.fsdecode(name) for place in (envs, state) for name in _names(place)}
        own = self._layout.inode()
        for name in sorted(filter(is_environment_name, names)):
            with contextlib.suppress(PreflightRefused, OSError):
                layout = environment_layout(os.fsdecode(self._prefix), name)
                for path in (layout.standing(), *_earlier(layout)):
                    if _is_directory(path) and os.lstat(path).st_ino != own:
                        yield SearchableTree(path, name, frozenset(_package_paths(path)))

    def _known(self, candidate: SearchableTree, contents: Set[bytes]) -> Dict[bytes, bytes]:
        """Return a path for each content found by record, content cache or installers' notes."""
        manifest = self._published(candidate)
        if manifest is None:
            try:
                status = os.lstat(candidate.path)
            except OSError:
                return {}  # the tree was removed meanwhile
            cached = self._trees.cache(status.st_dev, status.st_ino).directories()
            manifest = Manifest({path: known.listing for path, known in cached.items()}, 0, 0)
        if manifest.directories:
            return {found: min(paths) for found, paths in manifest.places(contents).items()}
        return _first(_noted(candidate), contents)

    def _published(self, candidate: SearchableTree) -> Optional[Manifest]:
        """Return the manifest in the tree's record, or None if it has no record."""
        with contextlib.suppress(PreflightRefused, OSError):
            records = Records(environment_layout(os.fsdecode(self._prefix), candidate.name))
            record = records.at(os.lstat(candidate.path).st_ino)
            return None if record is None else records.manifest(record)
        return None

    def _is_cached(self, package: bytes) -> bool:
        release = CONDA_RECORD.match(package)
        return release is not None and _is_directory(self._cache_path(release.group(1)))

    def _cache_path(self, release: bytes) -> bytes:
        return os.path.join(self._prefix, b"pkgs", release)

    def _cached(self, packages: Collection[bytes], contents: Set[bytes]) -> Dict[bytes, bytes]:
        """Return paths below conda's package cache for the contents found there."""
        if not contents:
            return {}
        releases = [found.group(1) for found in map(CONDA_RECORD.match, sorted(packages)) if found]
        return _first(
            (
                (join(release, path), digest)
                for release in releases
                for path, digest in installer_digests.in_conda_record(
                    _read(os.path.join(self._cache_path(release), b"info", b"paths.json"))
                )
            ),
            contents,
        )


def _holding(
    path: bytes, name: str, found: Dict[bytes, bytes], left: Set[bytes]
) -> Iterator[Holding]:
    """Yield a holding of what was found, if anything, and remove that from `left`."""
    if found:
        left -= found.keys()
        yield Holding(path, ContentPaths(found), name)


def _first(
    noted: Iterable[installer_digests.FileDigest], contents: Set[bytes]
) -> Dict[bytes, bytes]:
    found: Dict[bytes, bytes] = {}
    for path, digest in noted:
        if digest in contents and not os.path.isabs(path):
            found.setdefault(digest, path)
    return found


def _noted(candidate: SearchableTree) -> Iterator[installer_digests.FileDigest]:
    """Yield the file digests that conda and pip noted for an environment not hashed yet."""
    for path in sorted(candidate.packages):
        if path.endswith(b".dist-info"):
            beside = split(path)[0]
            for inside, digest in installer_digests.in_pip_record(
                _read(os.path.join(candidate.path, path, b"RECORD"))
            ):
                yield os.path.normpath(join(beside, inside)), digest
        else:
            yield from installer_digests.in_conda_record(_read(os.path.join(candidate.path, path)))


def _package_paths(tree: bytes) -> Iterator[bytes]:
    for name in _names(os.path.join(tree, b"conda-meta")):
        if name.endswith(b".json"):
            yield join(b"conda-meta", name)
    for python in _names(os.path.join(tree, b"lib")):
        if is_python(python):
            packages = b"lib/%s/site-packages" % python
            for name in _names(os.path.join(tree, packages)):
                if name.endswith(b".dist-info"):
                    yield join(packages, name)


def _earlier(layout: Layout) -> List[bytes]:
    """Return the trees of an environment's earlier versions; none if its state is closed or fails.

    Other trees may be in use as staging.
    """
    with contextlib.suppress(OSError):
        trees, recorded = layout.trees_by_inode(), {r.inode for r in Records(layout).all()}
        return [path for inode, path in trees.items() if inode in recorded]
    return []


def _names(path: bytes) -> List[bytes]:
    with contextlib.suppress(OSError):
        return os.listdir(path)
    return []


def _is_directory(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _read(path: bytes) -> bytes:
    """Read a small file; b"" if it cannot be read."""
    return read_start(path, _NOTE_BYTES_MAX) or b""
