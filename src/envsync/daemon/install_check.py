"""Checks whether an installer is at work in a source, or has left something half done.

Cheap enough for the daemon's own process, because it reads only /proc and a few directories.
The push itself looks for installers and what they left once more.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Collection, Iterator

from envsync.agent.server.running_installers import installers_at_work
from envsync.conda import busy
from envsync.daemon.install_records import (
    changed_seconds,
    contents,
    is_in_namespace,
    is_outer,
    named_like,
    not_of_conda,
    not_of_pip,
    package_directories,
    unclaimed,
    unwritten_history,
    what_is_missing,
)
from envsync.daemon.triggers import Observation
from envsync.daemon.watch_points import names_in, site_packages, watched_directories

CHECKS_SPARED_MAX = 20
"""While an installer runs, one check in so many is full; the others only test whether it runs."""

LOOK_SECONDS = 0.05
"""Hints that come so soon after one another have one look at /proc: any installer runs for longer
before it writes its first file."""

_PROCESS = re.compile(r"\(process (\d+)\)$")


class InstallCheck:
    """Checks one source, and remembers which distributions were found complete.

    Set `is_polled` where an installer can begin and end between two looks at the source.
    """

    def __init__(self, path: str, accepted: Collection[str] | None = None) -> None:
        """`accepted` are the packages that an earlier check found complete; others can come from
        an installer that was not seen. None means that all present packages are complete, unless
        an installer is at work now."""
        self.is_polled = False
        self._path = path
        self._complete: dict[str, int] = {}
        self._saw_installer = self._saw_conda = False
        self._looked_seconds = -math.inf
        self._busy = ""
        self._checks_spared = 0
        self._look_at_packages()
        if accepted is None:
            accepted = () if self._look_for_installer() else self._packages
        self._accepted = set(accepted)
        self._accepted_contents = self._contents
        # Others come from an installer while no daemon ran, or from the program itself.
        self._saw_installer |= any(map(is_outer, self._packages - self._accepted))

    def _look_at_packages(self) -> None:
        self._packages = package_directories(self._path)
        self._contents = contents(self._path)

    def _look_for_installer(self) -> str:
        """Return who is changing the environment now, as `pip (process 4242)`; empty if nobody."""
        at_work = list(installers_at_work([os.fsencode(self._path)]))
        self._saw_installer |= bool(at_work)
        self._saw_conda |= any(not name.startswith(("pip", "uv")) for name, _ in at_work)
        return next((f"{name} (process {pid})" for name, pid in at_work), "")

    def note_installer(self) -> None:
        """Note whether an installer runs now; once the source has settled it can be gone."""
        now = time.monotonic()
        if not self._busy and now - self._looked_seconds >= LOOK_SECONDS:
            self._looked_seconds = now
            self._look_for_installer()

    def observe(self) -> Observation:
        """Check the source now."""
        if not self._is_still_at_work():
            # Before /proc: what an installer brings that begins after that look is not accepted by
            # this check.
            self._look_at_packages()
            self._busy, self._checks_spared = self._look_for_installer(), CHECKS_SPARED_MAX
        return Observation(busy=self._busy, unfinished=() if self._busy else self.unfinished())

    def _is_still_at_work(self) -> bool:
        """Return whether the installer seen last still runs; now and then False, to check fully."""
        process = _PROCESS.search(self._busy)
        self._checks_spared -= 1
        if process is None or self._checks_spared <= 0:
            return False
        return os.path.exists(f"/proc/{process[1]}")

    def accept(self) -> None:
        """Take all packages of the last check for complete.

        If there were none, because the environment is gone, the earlier ones stay accepted: it
        may come back as it was.
        """
        self._accepted = self._packages or self._accepted
        self._accepted_contents = self._contents
        self._saw_installer = self._saw_conda = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """The packages taken for complete, as paths below the environment."""
        return tuple(sorted(self._accepted))

    def unfinished(self, *, only_old: bool = False) -> tuple[str, ...]:
        """Return a line for each thing that is half done.

        With `only_old`, only those so old (`busy.YOUNG_SECONDS`) that no installer will finish
        them.
        """
        before = time.time() - busy.YOUNG_SECONDS if only_old else math.inf
        signs = {*self._remains(before), *self._half_done(before), *self._orphans(before)}
        if self._saw_conda and not only_old:
            signs.update(self._unrecorded())
        return tuple(sorted(signs))

    def _remains(self, before: float) -> Iterator[str]:
        """Yield what installers leave behind while they work, or when they die."""
        paths = [b"conda-meta/history"]
        for directory in watched_directories(self._path):
            for name in names_in(directory):
                path = os.path.join(directory, name)
                might_be_one = "~" in name or name == ".condatmp"
                if might_be_one and changed_seconds(path) < before:
                    paths.append(os.fsencode(os.path.relpath(path, self._path)))
        now = time.time()
        for sign in busy.signs([(path, now) for path in paths], now):
            yield sign.message

    def _half_done(self, before: float) -> Iterator[str]:
        lagging = unwritten_history(self._path)
        if lagging and before == math.inf:
            yield f"conda-meta/history does not mention {lagging}"
        for directory in site_packages(self._path):
            for name in names_in(directory):
                path = os.path.join(directory, name)
                is_installed = name.endswith(".dist-info") and not name.startswith("~")
                if is_installed and changed_seconds(path) < before:
                    yield from self._incomplete(path)

    def _orphans(self, before: float) -> Iterator[str]:
        for path in unclaimed(self._path, self._new_packages()):
            if changed_seconds(os.path.join(self._path, path)) < before:
                name = path.partition("site-packages/")[2]
                yield f"{name} is in no installed distribution"

    def _new_packages(self) -> set[str]:
        """Return the packages that may be an installer's; also such as it has taken the record of.

        If none was seen, these are only such as appear without a hint.
        """
        new = self._packages - self._accepted
        if self._saw_installer or self.is_polled:
            gone = self._accepted_contents.records - self._contents.records
            return new | named_like(self._path, self._packages, gone)
        return {path for path in new if is_in_namespace(self._path, path)}

    def _unrecorded(self) -> Iterator[str]:
        """Yield what came with a conda that ended before it wrote the history, its last step."""
        if self._contents.history in (self._accepted_contents.history, 0):
            names = not_of_pip(self._path, self._contents.names - self._accepted_contents.names)
            for name in sorted(names):
                yield f"{name} is in no transaction of conda-meta/history"

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
        missing = what_is_missing(dist_info)
        # A conda recipe can delete files that a RECORD names, or the RECORD itself.
        if missing is None or not not_of_conda(self._path, {os.path.basename(dist_info)}):
            self._complete[dist_info] = changed_ns
        else:
            name = os.path.basename(dist_info).removesuffix(".dist-info")
            yield f"{name} is installed in part: {missing}"
