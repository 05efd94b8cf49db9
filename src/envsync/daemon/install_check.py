"""Checks whether an installer is at work in a source, or has left something half done.

Cheap enough for the daemon's own process: it reads /proc and a few directories, and all directories
only after an installation.
The push itself looks for installers and what they left once more.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from envsync.agent.server.running_installers import installers_at_work
from envsync.conda import busy
from envsync.daemon.install_records import (
    changed_seconds,
    is_of_conda,
    unwritten_history,
    what_is_missing,
)
from envsync.daemon.installer_runs import SLACK_SECONDS, InstallerRun, InstallerRuns
from envsync.daemon.rows import SourceRow
from envsync.daemon.triggers import Observation
from envsync.daemon.unclaimed_files import signs_of, unseen_signs
from envsync.daemon.watch_points import names_in, site_packages, watched_directories
from envsync.tree.local import DEFAULT_LOCAL, LocalPaths

FULL_CHECK_EVERY = 4
"""While an installer runs, one check in so many is full; the others only test whether it runs."""

LOOK_SECONDS = 0.05
LOOK_SHARE = 10
"""The pause between two looks at /proc for hints, which come in crowds: at least so long, and so
long that looks take at most one in LOOK_SHARE of the time."""

LONG_CHECK_SECONDS = 1.0
"""A check that takes longer, as one of a large environment on a slow disk, can miss installers."""


class _AtWork(NamedTuple):
    name: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class InstallCheck:
    """Checks one source, and remembers when it was last found complete.

    Set `is_polled` where an installer can begin and end between two looks at the source.
    """

    def __init__(self, path: str, local: Sequence[str], earlier: SourceRow | None = None) -> None:
        """`earlier` is what an earlier daemon knew of what stands at the path.

        Without it, all that is there is taken for complete, except for what an installer at work
        now has changed.
        """
        self.is_polled = False
        self._path = path
        self.set_local(local)
        self._complete: dict[str, int] = {}
        self._runs = InstallerRuns(path, earlier.installers if earlier else ())
        self._look_again_seconds = -math.inf
        self._is_look_due = False
        self._is_there = True
        self._at_work: _AtWork | None = None
        self._checks_spared = 0
        self._looked_seconds = time.time() - SLACK_SECONDS
        self._unwatched_until_seconds = time.time() if earlier else 0.0
        accepted_seconds = earlier.accepted_seconds if earlier else 0.0
        self.accepted_seconds = accepted_seconds or self._looked_seconds
        """When, since 1970, the check began that last found everything complete."""
        self._look_for_installer()

    def set_local(self, patterns: Sequence[str]) -> None:
        """Take its own patterns of local paths, which no revision has."""
        self._local = LocalPaths((*DEFAULT_LOCAL, *patterns))

    @property
    def runs(self) -> tuple[InstallerRun, ...]:
        """The installers that were seen since the source was last accepted."""
        return self._runs.all

    def _look_for_installer(self) -> _AtWork | None:
        """Return who is changing the environment now, if anybody is."""
        at_work = [_AtWork(*found) for found in installers_at_work([os.fsencode(self._path)])]
        self._runs.note(at_work)
        return at_work[0] if at_work else None

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
        self._checks_spared += 1
        if self._checks_spared == FULL_CHECK_EVERY or not _runs(self._at_work):
            # Before /proc: what an installer brings that begins after that look is not accepted by
            # this check.
            self._looked_seconds = time.time() - SLACK_SECONDS
            self._is_there = os.path.isdir(self._path)
            self._at_work, self._checks_spared = self._look_for_installer(), 0
        if self._at_work is not None:
            return Observation(busy=str(self._at_work))
        return Observation(unfinished=self.unfinished(), is_there=self._is_there)

    def accept(self) -> None:
        """Take all that the last check saw for complete.

        If it saw no environment, nothing changes: that may come back as it was.
        """
        if not self._is_there:
            return
        self.accepted_seconds, now = self._looked_seconds, time.time()
        # Whoever came and went during a long check was not seen.
        is_long = now > self._looked_seconds + LONG_CHECK_SECONDS
        self._unwatched_until_seconds = now if is_long else 0.0
        self._runs.forget_ended()

    def unfinished(self) -> tuple[str, ...]:
        """Return a line for each thing that is half done."""
        signs = {*self._leftovers(before=math.inf)}
        if package := unwritten_history(self._path):
            signs.add(f"conda-meta/history does not mention {package}")
        signs.update(signs_of(self._path, self._runs.ended, self._local))
        until = math.inf if self.is_polled else self._unwatched_until_seconds
        signs.update(unseen_signs(self._path, self.accepted_seconds, until, self._local))
        return tuple(sorted(signs))

    def old_leftovers(self) -> tuple[str, ...]:
        """Return those of them that are so old that no installer will finish them."""
        return tuple(sorted({*self._leftovers(before=time.time() - busy.YOUNG_SECONDS)}))

    def _leftovers(self, before: float) -> Iterator[str]:
        """Yield what is half done whoever did it, and last changed before that time."""
        yield from self._remains(before)
        yield from self._distributions(before)

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

    def _distributions(self, before: float) -> Iterator[str]:
        """Yield what pip, uv and others have installed in part."""
        for directory in site_packages(self._path):
            for name in names_in(directory):
                path = os.path.join(directory, name)
                is_installed = name.endswith(".dist-info") and not name.startswith("~")
                if is_installed and changed_seconds(path) < before:
                    yield from self._incomplete(path)

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
        if missing is None or is_of_conda(self._path, os.path.basename(dist_info)):
            self._complete[dist_info] = changed_ns
        else:
            name = os.path.basename(dist_info).removesuffix(".dist-info")
            yield f"{name} is installed in part: {missing}"


def _runs(at_work: _AtWork | None) -> bool:
    """Return whether an installer that was seen still runs."""
    return at_work is not None and os.path.exists(f"/proc/{at_work.pid}")
