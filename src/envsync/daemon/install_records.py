"""Reads what conda, pip and uv have recorded of the packages in an environment.

Only as much is read as an answer needs, because the daemon asks often.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator

from envsync.conda.metadata import record_rows
from envsync.conda.ownership import files_of_conda_meta, files_of_record
from envsync.conda.packages import normalized
from envsync.daemon.watch_points import names_in
from envsync.errors import listed

HISTORY_SECONDS = 60.0
"""How long a package with a new record that the history does not mention counts as half done."""

_RECORD_BYTES_MAX = 64 << 20
_HISTORY_BYTES_MAX = 16 << 20
_LATE_RECORDS = ("", "pip", "uv")
"""Installers that always write a RECORD, so that a missing one is still to come; others may
write none."""

_CHANGE = re.compile(r"([+-])(?:.*::)?(\S+)")


def is_of_conda(environment: str, dist_info: str) -> bool:
    """Return whether a package of conda has brought a distribution's `.dist-info` directory.

    Decided by conda's records, because an INSTALLER file often names the pip with which the
    conda package was built.
    """
    meta = os.path.join(environment, "conda-meta")
    path = os.fsencode(f"site-packages/{dist_info}/")
    for name in _likely_first(names_in(meta), dist_info):
        with contextlib.suppress(OSError), open(os.path.join(meta, name), "rb") as file:
            if path in file.read(_RECORD_BYTES_MAX):
                return True
    return False


def _likely_first(records: list[str], name: str) -> list[str]:
    """Sort records named like a distribution first, as one of them most likely mentions it."""
    likely = normalized(name.partition("-")[0])
    return sorted(records, key=lambda record: not normalized(record).startswith(likely))


def what_is_missing(dist_info: str) -> str | None:
    """Return what a distribution lacks; None if it is complete, or cannot be judged."""
    try:
        with open(os.path.join(dist_info, "RECORD"), "rb") as file:
            if os.fstat(file.fileno()).st_size > _RECORD_BYTES_MAX:
                return None
            paths = [row[0] for row in record_rows(file.read()) if row]
    except FileNotFoundError:
        if not names_in(dist_info):
            return None  # uv may leave the directory
        return "it has no RECORD" if _installer(dist_info) in _LATE_RECORDS else None
    except OSError:
        return None
    installer = _installer(dist_info)
    if installer == "conda":
        return None
    # pip unpacks the wheel's own RECORD with its other files, and writes INSTALLER at the end.
    if not installer:
        return "it has no INSTALLER"
    above = os.path.dirname(dist_info)
    gone = [path for path in paths if _counts(path) and not _is_there(above, path)]
    if len(gone) > 1:
        return f"{listed(gone, 1)} of its RECORD are missing"
    return f"{gone[0]} is missing" if gone else None


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
    records = conda_records(environment)
    names = unmentioned(records, installed_by_history(environment))
    if len(names) == len(records):
        return ""
    for name in names:
        path = os.path.join(environment, "conda-meta", f"{name}.json")
        if abs(time.time() - changed_seconds(path)) < HISTORY_SECONDS:
            return name
    return ""


def conda_records(environment: str) -> set[str]:
    """Return the packages of which conda-meta has a record, as `name-version-build`."""
    names = names_in(os.path.join(environment, "conda-meta"))
    return {name.removesuffix(".json") for name in names if name.endswith(".json")}


def installed_by_history(environment: str) -> set[str]:
    """Return what the history says is installed, as `name-version-build`, or without the build."""
    installed = set[str]()
    path = os.path.join(environment, "conda-meta/history")
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        for line in file.read(_HISTORY_BYTES_MAX).splitlines():
            if change := _CHANGE.match(line):
                (installed.add if change[1] == "+" else installed.discard)(change[2])
    return installed


def unmentioned(records: set[str], installed: set[str]) -> list[str]:
    """Return the recorded packages that are not among those installed as the history says."""
    return sorted(name for name in records if not {name, name.rpartition("-")[0]} & installed)


def all_records(environment: str, packages: Iterable[str]) -> Iterator[str]:
    """Yield the paths below the environment of all that records which files a package has.

    `packages` are its directories of Python packages.
    """
    for name in names_in(os.path.join(environment, "conda-meta")):
        if name.endswith(".json"):
            yield f"conda-meta/{name}"
    for top in packages:
        for name in names_in(os.path.join(environment, top)):
            if name.endswith(".dist-info"):
                yield f"{top}{name}/RECORD"
            elif name.endswith(".egg-info"):
                yield f"{top}{name}/installed-files.txt"


def recorded_files(environment: str, record: str) -> Iterator[str]:
    """Yield the paths below the environment that a record names; none if it cannot be read."""
    try:
        with open(os.path.join(environment, record), "rb") as file:
            is_small = os.fstat(file.fileno()).st_size <= _RECORD_BYTES_MAX
            content = file.read() if is_small else b""
    except OSError:
        return
    if record.endswith(".json"):
        yield from map(os.fsdecode, files_of_conda_meta(content))
        return
    info = os.path.dirname(record)
    base = os.path.dirname(info) if record.endswith("RECORD") else info
    paths = files_of_record(content, os.fsencode(base), os.fsencode(environment))
    for path in map(os.fsdecode, paths):
        yield path
        if not path.startswith(f"{base}/"):  # with `--target`, pip moves scripts beside it
            yield os.path.join(base, "bin", os.path.basename(path))


def changed_seconds(path: str) -> float:
    """Return when a path last changed, by its ctime; infinite if it is gone."""
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return float("inf")
