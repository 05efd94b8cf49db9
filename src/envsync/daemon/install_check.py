"""Checks whether an installer is at work in a source, or has left something half done.

Cheap enough for the daemon's own process, because it reads only /proc and a few directories.
The push itself looks for installers and what they left once more.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator

from envsync.agent.server.facts import running_processes
from envsync.conda import busy
from envsync.daemon.triggers import Observation
from envsync.daemon.watch_points import names_in, site_packages

HISTORY_SECONDS = 60.0
"""How long a package with a new record that the history does not mention counts as half done."""

CHECKS_SPARED_MAX = 20
"""While an installer runs, one check in so many is full; the others only test whether it runs."""

_RECORD_BYTES_MAX = 64 << 20
_HISTORY_BYTES_MAX = 16 << 20
_LATE_RECORDS = ("", "pip", "uv")
"""Installers that always write a RECORD, so that a missing one is still to come; others may
write none."""

_PROCESS = re.compile(r"\(process (\d+)\)$")
_DISTRIBUTION = re.compile(r"[+](?:.*::)?(\S+)")

_OF_PIP = re.compile(rb"^(?:\.\./)?([^/\r\n]+)(?:/|\r?$)", re.MULTILINE)
"""Each directory in a site-packages that a RECORD, an installed-files.txt (whose paths are
relative to the egg-info) or a top_level.txt names. It also finds names of files, which do no
harm."""

_OF_CONDA = re.compile(rb'site-packages/([^/"]+)/')


class InstallCheck:
    """Checks one source, and remembers which distributions were found complete."""

    def __init__(self, path: str, accepted: Collection[str] | None = None) -> None:
        """`accepted` are the packages that an earlier check found complete; others can come from
        an installer that was not seen. None means that all present packages are complete."""
        self._path = path
        self._complete: dict[str, int] = {}
        self._packages = set(self._package_directories())
        self._accepted = self._packages if accepted is None else set(accepted)
        self._saw_installer = not self._packages <= self._accepted
        self._busy = ""
        self._checks_spared = 0

    def note_installer(self) -> None:
        """Note whether an installer runs now; once the source has settled it can be gone."""
        self._saw_installer = self._saw_installer or bool(installer(self._path))

    def observe(self) -> Observation:
        """Check the source now."""
        if not self._is_still_at_work():
            self._busy, self._checks_spared = installer(self._path), CHECKS_SPARED_MAX
        if self._busy:
            self._saw_installer = True
            return Observation(busy=self._busy)
        self._packages = set(self._package_directories())
        return Observation(unfinished=self.unfinished())

    def _is_still_at_work(self) -> bool:
        """Return whether the installer seen last still runs; now and then False, to check fully."""
        found = _PROCESS.search(self._busy)
        self._checks_spared -= 1
        return found is not None and self._checks_spared > 0 and os.path.exists(f"/proc/{found[1]}")

    def accept(self) -> None:
        """Take all packages of the last check for complete.

        If there were none, because the environment is gone, the earlier ones stay accepted: it
        may come back as it was.
        """
        self._accepted = self._packages or self._accepted
        self._saw_installer = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """The packages taken for complete, as paths below the environment."""
        return tuple(sorted(self._accepted))

    def unfinished(self, *, only_old: bool = False) -> tuple[str, ...]:
        """Return a line for each thing that is half done.

        With `only_old`, only those so old (`busy.YOUNG_SECONDS`) that no installer will finish
        them.
        """
        before = time.time() - busy.YOUNG_SECONDS if only_old else float("inf")
        found = {*self._remains(before), *self._half_done(before)}
        return tuple(sorted(found.union(self._orphans() if self._saw_installer else ())))

    def _remains(self, before: float) -> Iterator[str]:
        """Yield what installers leave behind while they work, or when they die."""
        paths = [b"conda-meta/history"]
        for directory in ("", *_relative(self._path, site_packages(self._path))):
            for name in names_in(os.path.join(self._path, directory)):
                path = os.path.join(directory, name)
                is_remains = name.startswith("~") or name == ".condatmp"
                if is_remains and _changed_seconds(os.path.join(self._path, path)) < before:
                    paths.append(os.fsencode(path))
        now = time.time()
        for sign in busy.signs([(path, now) for path in paths], now):
            yield sign.message

    def _half_done(self, before: float) -> Iterator[str]:
        lagging = _unwritten_history(self._path)
        if lagging and before == float("inf"):
            yield f"conda-meta/history does not mention {lagging}"
        for directory in site_packages(self._path):
            for name in names_in(directory):
                path = os.path.join(directory, name)
                is_installed = name.endswith(".dist-info") and not name.startswith("~")
                if is_installed and _changed_seconds(path) < before:
                    yield from self._incomplete(path)

    def _orphans(self) -> Iterator[str]:
        """Yield new packages without an installer's record; a killed installer writes none."""
        for path in self._unclaimed(self._packages - self._accepted):
            yield f"{os.path.basename(path)} is in no installed distribution"

    def _unclaimed(self, packages: set[str]) -> set[str]:
        by_directory: dict[str, set[str]] = {}
        for path in packages:
            directory, name = os.path.split(path)
            by_directory.setdefault(directory, set()).add(name)
        left = {
            os.path.join(directory, name)
            for directory, names in by_directory.items()
            for name in self._not_of_pip(directory, names)
        }
        not_of_conda = self._not_of_conda({os.path.basename(path) for path in left})
        return {path for path in left if os.path.basename(path) in not_of_conda}

    def _not_of_pip(self, directory: str, names: set[str]) -> set[str]:
        """Return the names that no distribution in that site-packages records."""
        top = os.path.join(self._path, directory)
        records = [
            os.path.join(top, info, record)
            for info in _likely_first(names_in(top), names)
            for record in _records(info)
        ]
        return _not_in(records, _OF_PIP, names)

    def _not_of_conda(self, names: set[str]) -> set[str]:
        """Return the names of directories in site-packages that no conda package installed.

        Decided by conda's records, because an INSTALLER file often names the pip with which the
        conda package was built.
        """
        meta = os.path.join(self._path, "conda-meta")
        records = [os.path.join(meta, record) for record in _likely_first(names_in(meta), names)]
        return _not_in(records, _OF_CONDA, names)

    def _package_directories(self) -> Iterator[str]:
        """Yield the import packages in each site-packages, as paths below the environment."""
        for directory in _relative(self._path, site_packages(self._path)):
            with (
                contextlib.suppress(OSError),
                os.scandir(os.path.join(self._path, directory)) as found,
            ):
                for entry in found:
                    is_package = entry.name.isidentifier() and entry.name != "__pycache__"
                    if is_package and entry.is_dir(follow_symlinks=False):
                        yield os.path.join(directory, entry.name)

    def _incomplete(self, dist_info: str) -> Iterator[str]:
        """Yield what a distribution lacks of the files in its RECORD.

        A complete distribution is not read again until its `.dist-info` directory changes.
        """
        try:
            changed_ns = os.stat(dist_info).st_mtime_ns
        except OSError:
            return
        if self._complete.get(dist_info) == changed_ns:
            return
        missing = _missing(dist_info)
        # A conda recipe can delete files that a RECORD names, or the RECORD itself.
        if missing is None or not self._not_of_conda({os.path.basename(dist_info)}):
            self._complete[dist_info] = changed_ns
        else:
            name = os.path.basename(dist_info).removesuffix(".dist-info")
            yield f"{name} is installed in part: {missing}"


def installer(path: str) -> str:
    """Return who is changing the environment now, as `pip (process 4242)`; empty if nobody."""
    names = {os.fsencode(path), os.fsencode(os.path.realpath(path))}
    for process in running_processes():
        for name in names:
            at_work = busy.installer_at_work(process, name)
            if at_work is not None:
                return f"{at_work} (process {process.pid})"
    return ""


def _missing(dist_info: str) -> str | None:
    """Return what a distribution lacks; None if it is complete, or cannot be judged."""
    try:
        with open(os.path.join(dist_info, "RECORD"), encoding="utf-8", newline="") as file:
            if os.fstat(file.fileno()).st_size > _RECORD_BYTES_MAX:
                return None
            paths = [row[0] for row in csv.reader(file) if row]
    except FileNotFoundError:
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
    gone = [path for path in named if not os.path.lexists(os.path.join(above, path))]
    if not gone:
        return None
    more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    return f"{gone[0]}{more} of its RECORD are missing" if more else f"{gone[0]} is missing"


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


def _unwritten_history(environment: str) -> str:
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
        changed_seconds = _changed_seconds(os.path.join(meta, f"{name}.json"))
        if abs(time.time() - changed_seconds) < HISTORY_SECONDS:
            return name
    return ""


def _mentioned(history: str) -> set[str]:
    """Return all distributions that the history says were added, as `name-version-build`."""
    with contextlib.suppress(OSError, ValueError), open(history, encoding="utf-8") as file:
        text = file.read(_HISTORY_BYTES_MAX)
        return {match[1] for match in map(_DISTRIBUTION.match, text.splitlines()) if match}
    return set()


def _changed_seconds(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return float("inf")


def _records(info: str) -> tuple[str, ...]:
    """Return the files in which a distribution lists its own; an egg-info has no RECORD."""
    if info.endswith(".dist-info"):
        return ("RECORD",)
    return ("installed-files.txt", "top_level.txt") if info.endswith(".egg-info") else ()


def _likely_first(records: list[str], names: Iterable[str]) -> list[str]:
    """Sort records named like one of `names` first, as they most likely mention it."""
    likely = tuple(name.partition("-")[0].lower().replace("_", "-") for name in names)
    return sorted(records, key=lambda one: not one.lower().replace("_", "-").startswith(likely))


def _not_in(records: Iterable[str], pattern: re.Pattern[bytes], names: set[str]) -> set[str]:
    """Return the names that `pattern` finds in none of the files; stop once all are found."""
    left = set(map(os.fsencode, names))
    for record in records:
        if not left:
            break
        with contextlib.suppress(OSError), open(record, "rb") as file:
            left.difference_update(pattern.findall(file.read(_RECORD_BYTES_MAX)))
    return set(map(os.fsdecode, left))


def _relative(top: str, paths: Iterator[str]) -> Iterator[str]:
    return (os.path.relpath(path, top) for path in paths)
