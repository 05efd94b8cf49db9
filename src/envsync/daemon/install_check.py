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
from collections.abc import Iterator

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


class InstallCheck:
    """Checks one source, and remembers which distributions were found complete."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._complete: dict[str, int] = {}
        self._packages = set(self._package_directories())
        self._saw_installer = False
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
        return Observation(unfinished=self.unfinished())

    def _is_still_at_work(self) -> bool:
        """Whether the process that was seen is there: asked often, and the rest now and then."""
        found = _PROCESS.search(self._busy)
        self._checks_spared -= 1
        return found is not None and self._checks_spared > 0 and os.path.exists(f"/proc/{found[1]}")

    def accept(self) -> None:
        """Everything that is there now is taken for whole."""
        self._packages = set(self._package_directories())
        self._saw_installer = False

    def suspect(self, signs: tuple[str, ...]) -> None:
        """An earlier check found these: a package that nobody has a record of is none the better
        for having stood there before this one."""
        suspected = {path for path in self._packages if _orphan(path) in signs}
        self._packages -= suspected
        self._saw_installer = self._saw_installer or bool(suspected)

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
        for path in self._package_directories():
            if path not in self._packages and not self._is_claimed(path):
                yield _orphan(path)

    def _is_claimed(self, path: str) -> bool:
        directory, name = os.path.split(path)
        pips = [os.path.join(directory, info, "RECORD") for info in _names(directory)]
        return self._is_condas(path) or _mention(pips, f"\n{name}/")

    def _is_condas(self, path: str) -> bool:
        """Whether a package of conda has brought this directory of a site-packages. conda's
        records say so: an INSTALLER often tells of the pip that its package was built with."""
        meta = os.path.join(self._path, "conda-meta")
        name = os.path.basename(path)
        likely = name.partition("-")[0].lower().replace("_", "-")
        records = sorted(_names(meta), key=lambda record: not record.startswith(likely))
        paths = [os.path.join(meta, record) for record in records]
        return _mention(paths, f"site-packages/{name}/")

    def _package_directories(self) -> Iterator[str]:
        for directory in site_packages(self._path):
            for name in _names(directory):
                path = os.path.join(directory, name)
                is_package = name.isidentifier() and name != "__pycache__"
                if is_package and os.path.isdir(path) and not os.path.islink(path):
                    yield path

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
        if missing is None or self._is_condas(dist_info):
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


def _orphan(package: str) -> str:
    return f"{os.path.basename(package)} is in no installed distribution"


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


def _mention(records: list[str], words: str) -> bool:
    """Whether one of the files has these words, also at its very beginning."""
    for record in records:
        with contextlib.suppress(OSError), open(record, "rb") as file:
            if words.encode() in b"\n" + file.read(_RECORD_BYTES_MAX):
                return True
    return False


def _relative(top: str, paths: Iterator[str]) -> Iterator[str]:
    return (os.path.relpath(path, top) for path in paths)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
