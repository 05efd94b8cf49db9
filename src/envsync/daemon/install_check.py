"""Checks whether an installer is at work in a source, or has left something half done.

Cheap enough for the daemon's own process: it reads /proc and a few directories, and all directories
only after an installation.
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
    is_in_namespace,
    not_of_conda,
    package_directories,
    unclaimed,
    unwritten_history,
    what_is_missing,
)
from envsync.daemon.installer_runs import InstallerRun, InstallerRuns
from envsync.daemon.triggers import Observation
from envsync.daemon.unclaimed_files import signs_of, unseen_signs
from envsync.daemon.watch_points import names_in, site_packages, watched_directories

CHECKS_SPARED_MAX = 4
"""While an installer runs, one check in so many is full; the others only test whether it runs."""

LOOK_SECONDS = 0.05
LOOK_SHARE = 10
"""The pause between two looks at /proc for hints, which come in crowds: at least so long, and so
long that looks take at most one in LOOK_SHARE of the time."""

_PROCESS = re.compile(r"\(process (\d+)\)$")


class InstallCheck:
    """Checks one source, and remembers which distributions were found complete.

    Set `is_polled` where an installer can begin and end between two looks at the source.
    """

    def __init__(
        self,
        path: str,
        accepted: Collection[str] | None = None,
        runs: Collection[InstallerRun] = (),
        accepted_seconds: float = 0.0,
    ) -> None:
        """`accepted` are the packages that an earlier check found complete, when it is known that
        it did, `runs` the installers that were seen since; others can come from one that was not
        seen. None means that all present packages are complete, but for what an installer at work
        now has changed."""
        self.is_polled = False
        self._path = path
        self._complete: dict[str, int] = {}
        self._runs = InstallerRuns(path, runs)
        self._look_again_seconds = -math.inf
        self._is_look_due = False
        self._is_there = True
        self._busy = ""
        self._checks_spared = 0
        self._packages = package_directories(path)
        self._accepted = self._packages if accepted is None else set(accepted)
        self._came_unseen = self._packages - self._accepted
        self._unseen_until = 0.0 if accepted is None else time.time()
        self._looked_seconds = time.time()
        self.accepted_seconds = accepted_seconds or self._looked_seconds
        """When, since 1970, the check began that last found everything complete."""
        self._look_for_installer()

    @property
    def runs(self) -> tuple[InstallerRun, ...]:
        """The installers that were seen since the source was last accepted."""
        return self._runs.all

    def _look_for_installer(self) -> str:
        """Return who is changing the environment now, as `pip (process 4242)`; empty if nobody."""
        at_work = list(installers_at_work([os.fsencode(self._path)]))
        self._runs.note(at_work)
        return next((f"{name} (process {pid})" for name, pid in at_work), "")

    def note_installer(self) -> None:
        """Note which installers run, now or at `look_seconds`; once the source settles they can be
        gone."""
        self._is_look_due = True
        self.look_if_due()

    @property
    def look_seconds(self) -> float:
        """When, in monotonic seconds, `look_if_due` has something to do; infinite if never."""
        return self._look_again_seconds if self._is_look_due else math.inf

    def look_if_due(self) -> bool:
        """Note which installers run, if a hint asked for it; return whether it was time."""
        began_seconds = time.monotonic()
        if began_seconds < self.look_seconds:
            return False
        self._look_for_installer()
        now = time.monotonic()
        self._look_again_seconds = now + max(LOOK_SECONDS, LOOK_SHARE * (now - began_seconds))
        self._is_look_due = False
        return True

    def observe(self) -> Observation:
        """Check the source now."""
        if not self._is_still_at_work():
            # Before /proc: what an installer brings that begins after that look is not accepted by
            # this check.
            self._looked_seconds = time.time()
            self._is_there = os.path.isdir(self._path)
            self._packages = package_directories(self._path)
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
        """Take all that the last check saw for complete.

        If it saw no environment, nothing changes: that may come back as it was.
        """
        if not self._is_there:
            return
        self._accepted = self._packages
        self.accepted_seconds = self._looked_seconds
        self._came_unseen, self._unseen_until = set[str](), 0.0
        self._runs.forget_ended()

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
        if not only_old:
            signs.update(signs_of(self._path, self._runs.ended))
            until = math.inf if self.is_polled else self._unseen_until
            signs.update(unseen_signs(self._path, self.accepted_seconds, until))
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
        """Return the packages that an installer which nobody saw may have brought."""
        new = self._packages - self._accepted
        if self.is_polled:
            return new
        return new & self._came_unseen | set(filter(is_in_namespace, new))

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
