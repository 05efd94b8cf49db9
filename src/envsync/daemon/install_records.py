"""Reads what conda, pip and uv have recorded of the packages in an environment.

Only as much is read as an answer needs, because the daemon asks often.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import time
from collections.abc import Iterable, Iterator

from envsync.daemon.watch_points import names_in, site_packages

HISTORY_SECONDS = 60.0
"""How long a package with a new record that the history does not mention counts as half done."""

_RECORD_BYTES_MAX = 64 << 20
_HISTORY_BYTES_MAX = 16 << 20
_LATE_RECORDS = ("", "pip", "uv")
"""Installers that always write a RECORD, so that a missing one is still to come; others may
write none."""

_DISTRIBUTION = re.compile(r"[+](?:.*::)?(\S+)")

_OF_PIP = rb"^(?:\.\./)?((?:[^/\r\n]+/){%d}[^/\r\n]+)(?:/|\r?$)"
"""Each directory so deep in a site-packages that a RECORD, an installed-files.txt (whose paths are
relative to the egg-info) or a top_level.txt names. It also finds names of files, which do no
harm."""

_OF_CONDA = rb'site-packages/((?:[^/"]+/){%d}[^/"]+)/'

_LEVELS = 3
"""How deep packages of several distributions are: google/cloud/storage."""

_SHARED_INIT_BYTES_MAX = 1024
"""The largest `__init__.py` of such a package: it only extends the `__path__`, if there is any."""


def package_directories(environment: str) -> set[str]:
    """Return the import packages in each site-packages, as paths below the environment.

    Those in a package that may be of several distributions are among them.
    """
    return {
        path.removeprefix(f"{environment}/")
        for directory in site_packages(environment)
        for path in _packages(directory, _LEVELS)
    }


def _packages(directory: str, levels: int) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            is_package = entry.name.isidentifier() and entry.name != "__pycache__"
            if is_package and entry.is_dir(follow_symlinks=False):
                yield entry.path
                if levels > 1 and _is_shared(entry.path):
                    yield from _packages(entry.path, levels - 1)


def _is_shared(package: str) -> bool:
    """Return whether several distributions may have parts of a package: it has nothing itself."""
    try:
        with os.scandir(package) as entries:
            return all(
                entry.stat().st_size <= _SHARED_INIT_BYTES_MAX
                if entry.name == "__init__.py"
                else entry.is_dir(follow_symlinks=False)
                for entry in entries
            )
    except OSError:
        return False


def is_in_namespace(package: str) -> bool:
    """Return whether a package is a part of another one. No directory of those is watched."""
    return "/" in _name(package)


def unclaimed(environment: str, packages: set[str]) -> set[str]:
    """Return those of the packages, paths below the environment, that nothing has installed.

    That is, no installer has recorded them; one that was killed records nothing. What is in another
    such package is left out.
    """
    above = {os.path.dirname(path) for path in packages}
    by_place: dict[tuple[str, int], set[str]] = {}
    for path in packages | {path for path in above if _name(path)}:
        name = _name(path)
        place = path.removesuffix(name), name.count("/")
        by_place.setdefault(place, set()).add(name)
    left = {
        directory + name
        for (directory, depth), names in by_place.items()
        for name in not_of_conda(
            environment, _not_of_pip(os.path.join(environment, directory), names, depth), depth
        )
    }
    return {path for path in packages & left if os.path.dirname(path) not in left}


def _name(path: str) -> str:
    """Return the name of a package: its path in the site-packages."""
    return path.partition("site-packages/")[2]


def _not_of_pip(site_packages: str, names: set[str], depth: int) -> set[str]:
    """Return the names that no distribution in that site-packages records."""
    records = [
        os.path.join(site_packages, info, record)
        for info in _likely_first(names_in(site_packages), names)
        for record in _records(info)
    ]
    return _not_in(records, re.compile(_OF_PIP % depth, re.MULTILINE), names)


def not_of_conda(environment: str, names: set[str], depth: int = 0) -> set[str]:
    """Return the names of directories, so deep in site-packages, that no conda package installed.

    Decided by conda's records, because an INSTALLER file often names the pip with which the
    conda package was built.
    """
    meta = os.path.join(environment, "conda-meta")
    records = [os.path.join(meta, record) for record in _likely_first(names_in(meta), names)]
    return _not_in(records, re.compile(_OF_CONDA % depth), names)


def what_is_missing(dist_info: str) -> str | None:
    """Return what a distribution lacks; None if it is complete, or cannot be judged."""
    try:
        with open(os.path.join(dist_info, "RECORD"), encoding="utf-8", newline="") as file:
            if os.fstat(file.fileno()).st_size > _RECORD_BYTES_MAX:
                return None
            paths = [row[0] for row in csv.reader(file) if row]
    except FileNotFoundError:
        if not names_in(dist_info):
            return None  # uv may leave the directory
        return "it has no RECORD" if _installer(dist_info) in _LATE_RECORDS else None
    except (OSError, ValueError, csv.Error):
        return None
    installer = _installer(dist_info)
    if installer == "conda":
        return None
    # pip unpacks the wheel's own RECORD with its other files, and writes INSTALLER at the end.
    if not installer:
        return "it has no INSTALLER"
    above = os.path.dirname(dist_info)
    named = [path for path in paths if _counts(path)]
    gone = [path for path in named if not _is_there(above, path)]
    if not gone:
        return None
    more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    return f"{gone[0]}{more} of its RECORD are missing" if more else f"{gone[0]} is missing"


def _is_there(above: str, path: str) -> bool:
    """Return whether a path of a RECORD exists; with `--target`, pip moves scripts beside it."""
    paths = (path, f"bin/{os.path.basename(path)}") if path.startswith("../") else (path,)
    return any(os.path.lexists(os.path.join(above, path)) for path in paths)


def _counts(path: str) -> bool:
    """Return whether a missing path matters; not for bytecode, nor outside the environment."""
    return not path.endswith(".pyc") and not path.startswith("/")


def _installer(dist_info: str) -> str:
    """Return the content of a distribution's INSTALLER; empty if there is none (yet)."""
    try:
        with open(os.path.join(dist_info, "INSTALLER"), encoding="utf-8") as file:
            return file.read(100).strip()
    except (OSError, ValueError):
        return ""


def unwritten_history(environment: str) -> str:
    """Return a package with a new record that is not in the history yet; empty if there is none.

    conda writes the history after the records. Other tools (rattler, pixi) write no history, so a
    history that mentions none of the packages proves nothing, and a record counts only while it
    is younger than `HISTORY_SECONDS`.
    """
    meta = os.path.join(environment, "conda-meta")
    records = [name.removesuffix(".json") for name in names_in(meta) if name.endswith(".json")]
    mentioned = _mentioned(os.path.join(meta, "history"))
    unmentioned = [
        name for name in records if not mentioned.intersection((name, name.rpartition("-")[0]))
    ]
    if len(unmentioned) == len(records):
        return ""
    for name in unmentioned:
        age_seconds = time.time() - changed_seconds(os.path.join(meta, f"{name}.json"))
        if abs(age_seconds) < HISTORY_SECONDS:
            return name
    return ""


def _mentioned(history: str) -> set[str]:
    """Return all distributions that the history says were added, as `name-version-build`."""
    with contextlib.suppress(OSError, ValueError), open(history, encoding="utf-8") as file:
        text = file.read(_HISTORY_BYTES_MAX)
        return {match[1] for match in map(_DISTRIBUTION.match, text.splitlines()) if match}
    return set()


def changed_seconds(path: str) -> float:
    """Return when a path last changed, by its ctime; infinite if it is gone."""
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return float("inf")


def _records(info: str) -> tuple[str, ...]:
    """Return the files in which a distribution lists its own; an egg-info has no RECORD."""
    if info.endswith(".dist-info"):
        return ("RECORD",)
    return ("installed-files.txt", "top_level.txt") if info.endswith(".egg-info") else ()


def _normalized(name: str) -> str:
    return re.sub(r"[-_./]+", "-", name).lower()


def _likely_first(records: list[str], names: Iterable[str]) -> list[str]:
    """Sort records named like one of `names` first, as they most likely mention it."""
    likely = tuple(_normalized(re.split("[-/]", name)[0]) for name in names)
    return sorted(records, key=lambda name: not _normalized(name).startswith(likely))


def _not_in(records: Iterable[str], pattern: re.Pattern[bytes], names: set[str]) -> set[str]:
    """Return the names that `pattern` finds in none of the files; stop once all are found."""
    left = set(map(os.fsencode, names))
    for record in records:
        if not left:
            break
        with contextlib.suppress(OSError), open(record, "rb") as file:
            left.difference_update(pattern.findall(file.read(_RECORD_BYTES_MAX)))
    return set(map(os.fsdecode, left))
