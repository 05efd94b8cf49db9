"""Reads what conda, pip and uv have recorded of the packages in an environment.

Only as much is read as an answer needs, because the daemon asks often.
"""

from __future__ import annotations

import contextlib
import os
import re
import time

from envsync.conda.metadata import record_rows
from envsync.daemon.watch_points import names_in

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
    likely = _normalized(name.partition("-")[0])
    return sorted(records, key=lambda record: not _normalized(record).startswith(likely))


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


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
    records = conda_records(environment)
    unmentioned = sorted(records - mentioned(records, installed_by_history(environment)))
    if len(unmentioned) == len(records):
        return ""
    for name in unmentioned:
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


def mentioned(packages: set[str], others: set[str]) -> set[str]:
    """Return those of the packages that are among others, of which some may lack the build."""
    return {name for name in packages if name in others or name.rpartition("-")[0] in others}


def changed_seconds(path: str) -> float:
    """Return when a path last changed, by its ctime; infinite if it is gone."""
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return float("inf")
