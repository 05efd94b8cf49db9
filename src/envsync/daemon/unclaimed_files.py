"""Finds what installers brought into an environment and did not record, because they were killed.

conda and pip record each package's files once these are there, and conda writes its history last.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from envsync.daemon.install_records import (
    all_records,
    changed_seconds,
    conda_records,
    installed_by_history,
    recorded_files,
    unmentioned,
)
from envsync.daemon.installer_runs import SLACK_SECONDS, InstallerRun
from envsync.daemon.watch_points import names_in, site_packages
from envsync.tree.local import NFS_REMAINS, LocalPaths

_OTHERS = frozenset(("conda-meta", "envs", "pkgs", "tmp", "var"))
"""Directories at the top in which nothing is an installer's, or conda-meta itself."""

_PATHS_OF_NO_RECORD = (".pyc", ".egg-link", "easy-install.pth", ".lock")
"""What pip compiles, an old pip writes for `--editable`, and uv leaves in a `--target`."""

_NFS_REMAINS = os.fsdecode(NFS_REMAINS)

_CODE = (".py", ".pth", ".so")
"""Files of a site-packages that hardly anybody but an installer brings."""


_SHARED_INIT_BYTES_MAX = 1024
"""The largest `__init__.py` of such a package: it only extends the `__path__`, if there is any."""


class _ChangedFile(NamedTuple):
    path: str
    changed_seconds: float


def signs_of(environment: str, runs: Collection[InstallerRun], local: LocalPaths) -> Iterator[str]:
    """Yield a line for each thing that one of these runs, which have ended, left half done."""
    if not runs:
        return
    condas = [run for run in runs if run.is_of_conda]
    yield from _unwritten_history(environment, condas)
    since = min(run.started_seconds for run in runs) - SLACK_SECONDS
    found = {
        file.path
        for file in _changed_files(environment, [""], since, local)
        # An old pip records no scripts of a package that is installed with `--editable`.
        if _is_of(condas if file.path.startswith("bin/") else runs, file.changed_seconds)
    }
    yield from _signs(environment, found)


def _unwritten_history(environment: str, condas: Collection[InstallerRun]) -> Iterator[str]:
    """Yield what a conda has added or removed and not written into the history, which it does
    last."""
    meta = os.path.join(environment, "conda-meta")
    records, installed = conda_records(environment), installed_by_history(environment)
    for name in unmentioned(records, installed):
        if _is_of(condas, changed_seconds(os.path.join(meta, f"{name}.json"))):
            yield f"conda-meta/history does not mention {name}"
    with contextlib.suppress(OSError):
        if _is_of(condas, os.stat(meta).st_mtime):
            without_builds = {name.rpartition("-")[0] for name in records}
            for name in sorted(installed - records - without_builds):
                yield f"conda-meta has no record of {name}, which its history mentions"


def unseen_signs(
    environment: str, since_seconds: float, unwatched_until_seconds: float, local: LocalPaths
) -> Iterator[str]:
    """Yield a line for what an installer that nobody saw may have left half done since then.

    That is only code in a site-packages, because people and programs bring other files, too; and
    not in a package that has older files, because that is a person's, who works on it. What came
    after `unwatched_until_seconds` counts only in packages that several distributions share,
    because no hint tells of an installer that has begun to write there.
    """
    packages = _packages(environment)
    parts = tuple(path for top in packages for path in _parts_of_shared(environment, top))
    tops = packages if since_seconds <= unwatched_until_seconds else parts
    found = {
        path
        for path, seconds in _changed_files(environment, tops, since_seconds, local)
        if seconds <= unwatched_until_seconds or path.startswith(parts)
        if path.endswith((*_CODE, "/RECORD")) or ".so." in path
    }
    yield from _signs(environment, found, since_seconds)


def _parts_of_shared(environment: str, directory: str) -> Iterator[str]:
    """Yield the directories in packages of which several distributions may have parts."""
    for name in names_in(os.path.join(environment, directory)):
        package = os.path.join(directory, name)
        path = os.path.join(environment, package)
        if name.isidentifier() and not os.path.islink(path) and _is_shared(path):
            yield from (f"{package}/{part}/" for part in names_in(path))


def _is_shared(package: str) -> bool:
    """Return whether a package has no modules itself."""
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


def _signs(
    environment: str, paths: set[str], new_since_seconds: float = -math.inf
) -> Iterator[str]:
    """Yield a line for each path that no record names, and which has nothing older in it."""
    packages = _packages(environment)
    for path in _unclaimed(environment, paths, packages):
        if _oldest_seconds(os.path.join(environment, path)) < new_since_seconds:
            continue
        top = next((top for top in packages if path.startswith(top)), "")
        kind = "distribution" if top else "package"
        yield f"{path.removeprefix(top)} is in no installed {kind}"


def _oldest_seconds(path: str) -> float:
    """Return when the file that has been there for longest came; bytecode does not count."""
    files = (
        os.path.join(directory, name)
        for directory, _, names in os.walk(path)
        for name in names
        if not name.endswith(_PATHS_OF_NO_RECORD)
    )
    return min(map(changed_seconds, files), default=math.inf)


def _packages(environment: str) -> tuple[str, ...]:
    """Return the paths of each site-packages below the environment, with a slash at the end."""
    return tuple(os.path.relpath(path, environment) + "/" for path in site_packages(environment))


def _is_of(runs: Iterable[InstallerRun], changed_seconds: float) -> bool:
    """Return whether something changed while one of the installers ran."""
    return any(
        run.started_seconds - SLACK_SECONDS <= changed_seconds <= run.ended_seconds for run in runs
    )


def _changed_files(
    environment: str, tops: Iterable[str], since_seconds: float, local: LocalPaths
) -> Iterator[_ChangedFile]:
    """Yield the files below some directories that came since then, and are part of a revision.

    Only those in directories that have new entries.
    """
    left = list(tops)
    while left:
        directory = left.pop()
        above = os.path.join(environment, directory)
        with contextlib.suppress(OSError), os.scandir(above) as entries:
            has_new = os.stat(above).st_mtime >= since_seconds
            for entry in entries:
                path = os.path.join(directory, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    if not _is_of_no_installer(path, entry.name):
                        left.append(path)
                elif has_new and directory and _counts(entry.name):
                    seconds = changed_seconds(entry.path)
                    if since_seconds <= seconds < math.inf and not local.matches(os.fsencode(path)):
                        yield _ChangedFile(path, seconds)


def _counts(name: str) -> bool:
    """Return whether a file of that name can be an installer's, and is part of a revision."""
    return not name.endswith(_PATHS_OF_NO_RECORD) and not name.startswith(_NFS_REMAINS)


def _is_of_no_installer(path: str, name: str) -> bool:
    """Return whether nothing in a directory counts; `~NAME` is itself the sign of a killed pip."""
    return path in _OTHERS or path.startswith(".") or name == "__pycache__" or name.startswith("~")


def _unclaimed(environment: str, paths: set[str], packages: tuple[str, ...]) -> list[str]:
    """Return those of the paths that no record names; a whole directory that none names as one."""
    records = {path for path in paths if path.endswith(".dist-info/RECORD")}
    records.update(all_records(environment, packages))
    paths = {path for path in paths if ".dist-info/" not in path and ".egg-info/" not in path}
    claimed = set[str]()
    for record in _newest_first(environment, records):
        if paths <= claimed:
            return []
        claimed.update(recorded_files(environment, record))
    above = set[str]()
    for path in claimed:
        while (path := os.path.dirname(path)) and path not in above:
            above.add(path)
    return sorted({_highest(path, above, packages) for path in paths - claimed})


def _newest_first(environment: str, records: Iterable[str]) -> list[str]:
    """Sort records so that those of the last installation come first, as they name what is new."""
    return sorted(records, key=lambda path: -changed_seconds(os.path.join(environment, path)))


def _highest(path: str, above: set[str], packages: tuple[str, ...]) -> str:
    """Return the highest directory with a path in which nothing is claimed, else the path."""
    top = next((top for top in packages if path.startswith(top)), path.partition("/")[0] + "/")
    names = path.removeprefix(top).split("/")
    for count in range(1, len(names)):
        directory = top + "/".join(names[:count])
        if directory not in above:
            return directory
    return path
