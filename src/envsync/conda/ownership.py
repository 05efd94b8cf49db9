"""Finds which package owns a path, from the records of conda and pip."""

from __future__ import annotations

import json
import os
import posixpath
import re
from typing import Collection, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from envsync.conda.metadata import files_of_conda, path_bytes, record_rows
from envsync.conda.packages import (
    CONDA,
    RECORD_MAX_BYTES,
    Installed,
    Package,
    ReadFile,
    find_installed,
)
from envsync.files.json_object import json_object

_DIST_INFO_DEPTH = 4
_EGG_INFO = b".egg-info"
# By conda itself, by Python, by scripts of packages that run after the installation, and by pip.
_GENERATED = re.compile(
    rb"conda-meta/|(?:.*/)?__pycache__/"
    rb"|.*(?:/(?:gschemas\.compiled|(?:giomodule|icon-theme|immodules|loaders|mime)\.cache"
    rb"|easy-install\.pth)|\.egg-link)\Z",
    re.DOTALL,
)
_PYC = re.compile(rb"(.*?)__pycache__/([^/]+?)\.[^/.]+(?:\.opt-[^/.]+)?\.pyc", re.DOTALL)


class PathGroup(NamedTuple):
    """The number of paths that belong to one package; `package` is None for those of none."""

    package: Optional[Package]
    path_count: int

    def __str__(self) -> str:
        noun = "file" if self.path_count == 1 else "files"
        package = self.package or "in no known package"
        return f"{package}: {self.path_count:,} {noun}"


def group_paths(
    changed_paths: Iterable[bytes],
    all_paths: Iterable[bytes],
    read: ReadFile,
    gone_paths: Iterable[bytes] = (),
) -> Tuple[PathGroup, ...]:
    """Return the packages that the changed paths belong to, most paths first, no package last.

    `all_paths` are the relative paths of the environment, `gone_paths` those that it had before;
    `read` returns a file's content or None. Records are read only until every path has its package,
    and damaged ones count as empty. A file of conda's that pip has replaced belongs to pip's
    package, and one of a package that is gone to that only if no other has it now.
    """
    unclaimed = _Unclaimed(changed_paths)
    groups: List[PathGroup] = []
    present = find_installed(all_paths)
    gone = [package for package in find_installed(gone_paths) if package not in present]
    for installed in (*_pips_first(present), *_pips_first(gone)):
        count = unclaimed.claim_metadata(installed.metadata_path)
        if unclaimed.paths:
            count += unclaimed.claim(_files(installed, read))
        if count:
            groups.append(PathGroup(installed.package, count))
    groups.sort(key=lambda group: (-group.path_count, group.package))
    if unclaimed.paths:
        groups.append(PathGroup(None, len(unclaimed.paths)))
    return tuple(groups)


def unowned(paths: Collection[bytes], read: ReadFile) -> List[bytes]:
    """Return which of an environment's files belong to no package, sorted.

    Files that a rebuild generates again are left out.
    """
    unclaimed = _Unclaimed(path for path in paths if not _GENERATED.match(path))
    for installed in find_installed(paths):
        unclaimed.claim_metadata(installed.metadata_path)
        unclaimed.claim(_files(installed, read))
    return sorted(unclaimed.paths)


def _pips_first(packages: Iterable[Installed]) -> List[Installed]:
    """Sort packages: conda's records still list the files that pip has replaced."""
    return sorted(packages, key=lambda one: one.package.kind == CONDA)


class _Unclaimed:
    """The changed paths that no package has claimed yet, indexed by what can claim them."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        self.paths = set(paths)
        self._compiled: Dict[bytes, List[bytes]] = {}
        self._metadata: Dict[bytes, List[bytes]] = {}
        for path in self.paths:
            match = _PYC.fullmatch(path)
            if match:
                source = match.group(1) + match.group(2) + b".py"
                self._compiled.setdefault(source, []).append(path)
            # lib/pythonX.Y/site-packages/X.dist-info, or conda-meta/X.json itself.
            top = b"/".join(path.split(b"/", _DIST_INFO_DEPTH)[:_DIST_INFO_DEPTH])
            self._metadata.setdefault(top, []).append(path)

    def claim(self, files: Iterable[bytes]) -> int:
        """Remove these files and what was compiled from them; return how many paths that were."""
        before = len(self.paths)
        for path in files:
            self.paths.discard(path)
            self.paths.difference_update(self._compiled.get(path, ()))
        return before - len(self.paths)

    def claim_metadata(self, metadata_path: bytes) -> int:
        return self.claim(self._metadata.get(metadata_path, ()))


def files_of_conda_meta(content: bytes) -> Tuple[bytes, ...]:
    """Return the relative paths in a `conda-meta/*.json`; empty if it is damaged."""
    return files_of_conda(json_object(content))


def files_of_record(
    content: bytes, directory: bytes, environment: Optional[bytes] = None
) -> Iterator[bytes]:
    """Yield the paths in a pip package's list, which are relative to `directory`.

    They become relative to the environment, if that is given also those that are absolute, as
    Poetry writes them. Paths that lead out of the environment are left out.
    """
    for row in record_rows(content):
        if row and row[0]:
            path = posixpath.normpath(posixpath.join(directory, path_bytes(row[0])))
            if environment is not None and path.startswith(environment + b"/"):
                path = path[len(environment) + 1 :]
            if not path.startswith((b"/", b"../")):
                yield path


def is_record(path: bytes) -> bool:
    """Return whether a relative path is that of a package's record, of conda's or pip's."""
    return any(_record(installed) == path for installed in find_installed([path]))


def only_files(path: bytes, content: bytes) -> str:
    """Return a record with nothing but the files in it: conda's may have credentials, too."""
    if path.endswith(b".json"):
        files = map(os.fsdecode, files_of_conda_meta(content))
        return json.dumps({"files": list(files)})
    return content.decode("utf-8", "surrogateescape")


def _record(installed: Installed) -> bytes:
    path = installed.metadata_path
    if installed.package.kind == CONDA:
        return path
    return path + (b"/installed-files.txt" if path.endswith(_EGG_INFO) else b"/RECORD")


def _files(installed: Installed, read: ReadFile) -> Iterable[bytes]:
    content, path = _bounded(read(_record(installed))), installed.metadata_path
    if installed.package.kind == CONDA:
        return files_of_conda_meta(content)
    return files_of_record(content, path if path.endswith(_EGG_INFO) else posixpath.dirname(path))


def _bounded(content: Optional[bytes]) -> bytes:
    return b"" if content is None or len(content) > RECORD_MAX_BYTES else content
