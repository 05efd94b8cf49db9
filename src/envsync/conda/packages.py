"""Lists and compares an environment's packages by the names of its files.

conda keeps one `conda-meta/NAME-VERSION-BUILD.json` for each package; pip and similar tools one
`site-packages/NAME-VERSION.dist-info` (formerly `.egg-info`). A Python package that conda
installed has both, and counts once.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from envsync.conda.metadata import SITE_PACKAGES

CONDA = "conda"
PYPI = "pypi"

RECORD_MAX_BYTES = 64 << 20
"""A larger record counts as empty; those of the largest packages have about 10 MB."""

ReadFile = Callable[[bytes], Optional[bytes]]
"""Returns the content of an environment's file by its relative path; None if it cannot be read."""

_CONDA_META = re.compile(rb"conda-meta/([^/]+\.json)")
_SITE_PACKAGES = re.compile(SITE_PACKAGES)
_METADATA = re.compile(SITE_PACKAGES + rb"/([^/~][^/]*\.(?:dist|egg)-info)(?=/|\Z)")
_EGG_PYTHON = re.compile(r"-py\d[\d.]*(?:-.*)?\Z")
_VERSION_PART = re.compile(r"\d+|[a-z]+")


class Package(NamedTuple):
    """One installed package; `build` is empty if unknown."""

    name: str
    version: str
    build: str
    kind: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.version, self.build) if part)


class Installed(NamedTuple):
    """A package, and the relative path of the metadata that says that it is installed."""

    package: Package
    metadata_path: bytes


def normalized(name: str) -> str:
    """Return the name in the form in which Python's package index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def from_conda_meta_name(filename: str) -> Optional[Package]:
    """Return the package named by `NAME-VERSION-BUILD.json`; None for any other filename."""
    if not filename.endswith(".json"):
        return None
    parts = filename[: -len(".json")].rsplit("-", 2)
    if len(parts) != 3 or not all(parts):
        return None
    return Package(parts[0], parts[1], parts[2], CONDA)


def from_dist_info_name(dirname: str) -> Optional[Package]:
    """Return the package named by `NAME-VERSION.dist-info` or `.egg-info`, or None."""
    stem, _, suffix = dirname.rpartition(".")
    if suffix == "egg-info":
        stem = _EGG_PYTHON.sub("", stem)
    elif suffix != "dist-info":
        return None
    name, dash, version = stem.rpartition("-")
    if not dash:
        name, version = stem, ""
    if not name or name.startswith("~"):
        return None
    return Package(name, version, "", PYPI)


def may_be_of_package(path: bytes) -> bool:
    """Return whether a change at a relative path can be an installer's.

    Every installer changes something for which this is true.
    """
    return path.partition(b"/")[0] in (b"conda-meta", b"lib", b"bin")


def find_installed(paths: Iterable[bytes]) -> Tuple[Installed, ...]:
    """Return the packages that an environment's relative paths name, sorted by path.

    `paths` are files, directories or both, in any order. A dist-info that conda installed is
    left out, because conda's own record stands for it.
    """
    by_path: Dict[bytes, Package] = {}
    for path in paths:
        match = _CONDA_META.fullmatch(path)
        parse: Callable[[str], Optional[Package]] = from_conda_meta_name
        if match is None and b"-info" in path:
            match = _METADATA.match(path)
            parse = from_dist_info_name
        if match is not None and match.group() not in by_path:
            package = parse(match.group(1).decode("utf-8", "backslashreplace"))
            if package is not None:
                by_path[match.group()] = package
    conda = {
        normalized(package.name): package for package in by_path.values() if package.kind == CONDA
    }
    return tuple(
        Installed(by_path[path], path)
        for path in sorted(by_path)
        if not _is_condas(by_path[path], conda)
    )


def _is_condas(package: Package, conda: Mapping[str, Package]) -> bool:
    """Return whether a package is the dist-info of conda's package of the same name."""
    if package.kind == CONDA or normalized(package.name) not in conda:
        return False
    version = conda[normalized(package.name)].version
    return not package.version or _comparable(package.version) == _comparable(version)


def list_packages(paths: Iterable[bytes]) -> Tuple[Package, ...]:
    """Return the packages that an environment's relative paths name, sorted by name.

    A package that both conda and pip name counts once: as pip's if pip has installed another
    version over it (which is what Python imports), else as conda's.
    """
    packages = [installed.package for installed in find_installed(paths)]
    pypi = {normalized(package.name): package for package in packages if package.kind == PYPI}
    conda = [
        package
        for package in packages
        if package.kind == CONDA and normalized(package.name) not in pypi
    ]
    return tuple(
        sorted([*conda, *pypi.values()], key=lambda package: (normalized(package.name), package))
    )


def difference(before: Iterable[Package], after: Iterable[Package]) -> Tuple[str, ...]:
    """Return a line for each package that differs, by name: `~ numpy 1.26.4 -> 2.0.1`.

    A package that went from conda to pip counts as changed.
    """
    old, new = set(before), set(after)
    gone = sorted(old - new)
    come = sorted(new - old)
    pairs = _pair(gone, come, lambda package: package.name)
    pairs += _pair(gone, come, lambda package: normalized(package.name))
    lines = [(package.name, f"+ {package}") for package in come]
    lines += [(package.name, f"- {package}") for package in gone]
    lines += [(new.name, f"~ {old} -> {_news(old, new)}") for old, new in pairs]
    return tuple(line for _, line in sorted(lines))


def _pair(
    gone: List[Package], come: List[Package], key: Callable[[Package], str]
) -> List[Tuple[Package, Package]]:
    """Remove packages with equal keys from both lists; return them as pairs."""
    pairs = []
    waiting: Dict[str, List[Package]] = {}
    for package in gone:
        waiting.setdefault(key(package), []).append(package)
    for package in list(come):
        candidates = waiting.get(key(package))
        if candidates:
            before = candidates.pop(0)
            gone.remove(before)
            come.remove(package)
            pairs.append((before, package))
    return pairs


def _comparable(version: str) -> Tuple[str, ...]:
    """Return the version without what conda and pip write differently: `1.0` equals `v1.0.0`."""
    parts = [part.lstrip("0") for part in _VERSION_PART.findall(version.lower()) if part != "v"]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def _news(old: Package, new: Package) -> str:
    """Return the parts of `new` that are worth showing after `old`."""
    if normalized(old.name) == normalized(new.name) and old.kind == new.kind:
        return " ".join(part for part in (new.version, new.build) if part)
    return f"{new} ({new.kind})"
