"""The installers that were seen at work in an environment, each from its start to its end."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

SLACK_SECONDS = 0.02
"""Filesystems take their times from a clock that is behind by some milliseconds."""


class InstallerRun(NamedTuple):
    """A process of an installer, in seconds since 1970; while it runs, `ended_seconds` is 0.

    `start_ticks` tell it from another process with the same PID.
    """

    name: str
    pid: int
    start_ticks: int
    started_seconds: float
    ended_seconds: float = 0.0

    @property
    def is_of_conda(self) -> bool:
        return not self.name.startswith(("pip", "uv"))


class InstallerRuns:
    """Notes the installers of an environment, until `forget_ended`, and when each of them ends.

    A conda that comes to its end is forgotten at once: scripts of its packages may have written
    what nobody records.
    """

    def __init__(self, environment: str, runs: Iterable[InstallerRun] = ()) -> None:
        """`runs` were noted by a daemon that has ended."""
        self._environment = environment
        self._lock = threading.Lock()
        self._runs = {(run.pid, run.start_ticks): run for run in runs}
        for run in self.all:
            if _start_ticks(run.pid) != run.start_ticks:
                # The history can be of another conda, which ran after it while no daemon did.
                self._over(run, may_be_forgotten=False)
            elif not run.ended_seconds:
                self._await_end(run)

    @property
    def all(self) -> tuple[InstallerRun, ...]:
        with self._lock:
            return tuple(self._runs.values())

    @property
    def ended(self) -> tuple[InstallerRun, ...]:
        return tuple(run for run in self.all if run.ended_seconds)

    def note(self, at_work: Iterable[tuple[str, int]]) -> None:
        """Note those that are at work now, by name and PID; there are no others."""
        started = {(pid, _start_ticks(pid)): name for name, pid in at_work}
        # Of one that ended since it was listed, nobody can tell any more when it started.
        at_work_now = {key: name for key, name in started.items() if key[1]}
        for (pid, start_ticks), name in at_work_now.items():
            if (pid, start_ticks) not in self._runs:
                run = InstallerRun(name, pid, start_ticks, _seconds_at(start_ticks))
                self._runs[pid, start_ticks] = run
                self._await_end(run)
        for run in self.all:
            if not run.ended_seconds and (run.pid, run.start_ticks) not in at_work_now:
                self._over(run)  # the thread that waits for its end may be late

    def forget_ended(self) -> None:
        with self._lock:
            self._runs = {key: run for key, run in self._runs.items() if not run.ended_seconds}

    def _await_end(self, run: InstallerRun) -> None:
        """Note when the process ends: what its user does right afterwards is not its work."""
        try:
            descriptor = os.pidfd_open(run.pid)
        except ProcessLookupError:
            self._over(run)
            return
        except (OSError, AttributeError):
            return  # before Linux 5.3; `note` finds out
        if _start_ticks(run.pid) != run.start_ticks:
            os.close(descriptor)
            self._over(run)
            return
        arguments = (run, descriptor)
        threading.Thread(target=self._wait, args=arguments, daemon=True, name=run.name).start()

    def _wait(self, run: InstallerRun, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
        self._over(run)
        os.close(descriptor)

    def _over(self, run: InstallerRun, *, may_be_forgotten: bool = True) -> None:
        key = run.pid, run.start_ticks
        with self._lock:
            if key not in self._runs or self._runs[key].ended_seconds:
                return
            if may_be_forgotten and run.is_of_conda and self._has_written_history(run):
                del self._runs[key]
            else:
                # By today's clock: it may have been set back meanwhile.
                started = min(run.started_seconds, _seconds_at(run.start_ticks))
                self._runs[key] = run._replace(started_seconds=started, ended_seconds=time.time())

    def _has_written_history(self, run: InstallerRun) -> bool:
        """Return whether a conda has written the history, which it does last."""
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(self._environment, "conda-meta/history"))
            return status.st_size > 0 and status.st_mtime >= run.started_seconds - SLACK_SECONDS
        return False


def _start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The 22nd field; the second, a name in parentheses, can contain anything.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _seconds_at(ticks: int) -> float:
    since_boot = ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
