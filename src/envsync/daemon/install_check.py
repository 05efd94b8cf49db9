"""A check of a source before it is pushed: is an installer at work, is something half done?

Cheap enough for the daemon's own process: /proc, and the few directories that tell. The
push checks again, and everything.
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
from envsync.daemon.watch_points import site_packages

HISTORY_SECONDS = 60.0
"""How long after its record a package may be missing in the history."""

CHECKS_SPARED_MAX = 20
"""How often in a row it is only asked whether the installer that was seen is still there."""

_RECORD_BYTES_MAX = 64 << 20
_HISTORY_BYTES_MAX = 16 << 20
_LATE_RECORDS = ("", "pip", "uv")
"""Of these installers a RECORD that is missing is one to come; others may write none."""

_PROCESS = re.compile(r"\(process (\d+)\)$")
_DISTRIBUTION = re.compile(r"[+](?:.*::)?(\S+)")

_OF_PIP = re.compile(rb"^(?:\.\./)?([^/\r\n]+)(?:/|\r?$)", re.MULTILINE)
"""Each directory of a site-packages of which a RECORD, an installed-files.txt (its paths begin
in the egg-info) or a top_level.txt speaks; and names of files, which are nobody's directory."""

_OF_CONDA = re.compile(rb'site-packages/([^/"]+)/')


class InstallCheck:
    """Checks one source, and remembers which distributions were found complete."""

    def __init__(self, path: str, accepted: Collection[str] | None = None) -> None:
        """`accepted` are the packages that an earlier one took for whole: what has come since
        may be an installer's whom nobody saw. Without, whatever is there is taken for whole."""
        self._path = path
        self._complete: dict[str, int] = {}
        self._packages = set(self._package_directories())
        self._accepted = self._packages if accepted is None else set(accepted)
        self._saw_installer = not self._packages <= self._accepted
        self._busy = ""
        self._checks_spared = 0

    def note_installer(self) -> None:
        """At the first hint of a change: who makes it may be gone when the source has settled."""
        self._saw_installer = self._saw_installer or bool(installer(self._path))

    def observe(self) -> Observation:
        """What can be seen now."""
        if not self._is_still_at_work():
            self._busy, self._checks_spared = installer(self._path), CHECKS_SPARED_MAX
        if self._busy:
            self._saw_installer = True
            return Observation(busy=self._busy)
        self._packages = set(self._package_directories())
        return Observation(unfinished=self.unfinished())

    def _is_still_at_work(self) -> bool:
        """Whether the process that was seen is there: asked often, and the rest now and then."""
        found = _PROCESS.search(self._busy)
        self._checks_spared -= 1
        return found is not None and self._checks_spared > 0 and os.path.exists(f"/proc/{found[1]}")

    def accept(self) -> None:
        """Everything that was there at the last check is taken for whole. An environment that is
        gone takes nothing along: it may come back as it was."""
        self._accepted = self._packages or self._accepted
        self._saw_installer = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """The packages that are taken for whole, as paths below the environment."""
        return tuple(sorted(self._accepted))

    def unfinished(self, *, only_old: bool = False) -> tuple[str, ...]:
        """What is half done; with `only_old`, for so long that nobody is going to finish it."""
        before = time.time() - busy.YOUNG_SECONDS if only_old else float("inf")
        found = {*self._remains(before), *self._half_done(before)}
        return tuple(sorted(found.union(self._orphans() if self._saw_installer else ())))

    def _remains(self, before: float) -> Iterator[str]:
        """What installers leave while they work, or when they die."""
        paths = [b"conda-meta/history"]
        for directory in ("", *_relative(self._path, site_packages(self._path))):
            for name in _names(os.path.join(self._path, directory)):
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
            for name in _names(directory):
                path = os.path.join(directory, name)
                is_installed = name.endswith(".dist-info") and not name.startswith("~")
                if is_installed and _changed_seconds(path) < before:
                    yield from self._incomplete(path)

    def _orphans(self) -> Iterator[str]:
        """New packages of which no installer has a record: one that was killed writes none."""
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
        """Those of which no distribution in that site-packages speaks."""
        top = os.path.join(self._path, directory)
        records = [
            os.path.join(top, info, record)
            for info in _likely_first(_names(top), names)
            for record in _records(info)
        ]
        return _not_in(records, _OF_PIP, names)

    def _not_of_conda(self, names: set[str]) -> set[str]:
        """Those directories of a site-packages that no package of conda has brought. conda's
        records say so: an INSTALLER often tells of the pip that its package was built with."""
        meta = os.path.join(self._path, "conda-meta")
        records = [os.path.join(meta, record) for record in _likely_first(_names(meta), names)]
        return _not_in(records, _OF_CONDA, names)

    def _package_directories(self) -> Iterator[str]:
        """By their paths below the environment."""
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
        """What a distribution lacks of what its RECORD names. One that lacks nothing is read
        once, until it changes."""
        try:
            changed_ns = os.stat(dist_info).st_mtime_ns
        except OSError:
            return
        if self._complete.get(dist_info) == changed_ns:
            return
        missing = _missing(dist_info)
        # A recipe of conda may delete what its RECORD names, and bring none at all.
        if missing is None or not self._not_of_conda({os.path.basename(dist_info)}):
            self._complete[dist_info] = changed_ns
        else:
            name = os.path.basename(dist_info).removesuffix(".dist-info")
            yield f"{name} is installed in part: {missing}"


def installer(path: str) -> str:
    """Who changes the environment right now, as in `pip (process 4242)`; or nothing."""
    names = {os.fsencode(path), os.fsencode(os.path.realpath(path))}
    for process in running_processes():
        for name in names:
            at_work = busy.installer_at_work(process, name)
            if at_work is not None:
                return f"{at_work} (process {process.pid})"
    return ""


def _missing(dist_info: str) -> str | None:
    """What a distribution lacks; None where it is whole, or nobody can tell."""
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
    # Of a wheel, pip unpacks a RECORD with the rest, and says last of all who did it.
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
    """Bytecode comes and goes, and what is outside of the environment is not its own."""
    return not path.endswith(".pyc") and not path.startswith("/")


def _installer(dist_info: str) -> str:
    """Who says to have installed it; nothing where nobody does (yet)."""
    try:
        with open(os.path.join(dist_info, "INSTALLER"), encoding="utf-8") as file:
            return file.read(100).strip()
    except (OSError, ValueError):
        return ""


def _unwritten_history(environment: str) -> str:
    """A package that has just got a record and is in no transaction of the history yet.

    conda writes the history after the records. Others (rattler, pixi) write none at all: so
    one that mentions none of the packages says nothing, and a record is waited for only while
    it is quite young.
    """
    meta = os.path.join(environment, "conda-meta")
    records = [name.removesuffix(".json") for name in _names(meta) if name.endswith(".json")]
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
    """All distributions that were ever added, as `name-version-build`."""
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
    """The files of a distribution that say what it has brought: an egg-info has no RECORD."""
    if info.endswith(".dist-info"):
        return ("RECORD",)
    return ("installed-files.txt", "top_level.txt") if info.endswith(".egg-info") else ()


def _likely_first(records: list[str], names: Iterable[str]) -> list[str]:
    """Those first that are called as what is asked for."""
    likely = tuple(name.partition("-")[0].lower().replace("_", "-") for name in names)
    return sorted(records, key=lambda one: not one.lower().replace("_", "-").startswith(likely))


def _not_in(records: Iterable[str], pattern: re.Pattern[bytes], names: set[str]) -> set[str]:
    """Those names that none of the files has; none is read once there is none left."""
    left = set(map(os.fsencode, names))
    for record in records:
        if not left:
            break
        with contextlib.suppress(OSError), open(record, "rb") as file:
            left.difference_update(pattern.findall(file.read(_RECORD_BYTES_MAX)))
    return set(map(os.fsdecode, left))


def _relative(top: str, paths: Iterator[str]) -> Iterator[str]:
    return (os.path.relpath(path, top) for path in paths)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
