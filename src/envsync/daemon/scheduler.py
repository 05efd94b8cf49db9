"""Schedules the work: checks sources after a hint, and has workers scan and push them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from envsync.daemon.assignments import Assignments
from envsync.daemon.log import Log
from envsync.daemon.message_handler import MessageHandler
from envsync.daemon.rows import IN_STEP, SourceRow
from envsync.daemon.source_checks import SourceChecks
from envsync.daemon.spares import Spares
from envsync.daemon.standby import Standby
from envsync.daemon.sync_state import SyncState
from envsync.daemon.tasks import DigestCheck, Task
from envsync.daemon.tracked_source import TrackedSource
from envsync.daemon.triggers import Activity
from envsync.daemon.worker_pool import StartProcess, WorkerPool
from envsync.daemon.worker_process import WorkerProcess

READY_SECONDS = 5.0
"""How long before a source may be pushed a worker is made ready for it, which is the time needed to
start one and to connect."""


class Scheduler:
    """The daemon's work on all sources.

    `start` gives a task to a new process. Times are in monotonic seconds, except those of `wall`.
    """

    def __init__(
        self,
        sync_state: SyncState,
        log: Log,
        start: StartProcess,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.sync_state = sync_state
        self._clock = clock
        self._wall = wall
        self._sources: dict[str, TrackedSource] = {}
        self._checks = SourceChecks(sync_state, log, clock)
        self._pool = WorkerPool(start, log, clock)
        self._standby = Standby(self._pool, clock)
        self._spares = Spares(self._pool, log)
        self._message_handler = MessageHandler(
            sync_state, self._sources, self._spares, lambda name: self.hint([name]), clock
        )
        self._to_scan: dict[str, bool] = {}
        """The sources to scan, and whether each has settled."""
        self._next_rescan_seconds = 0.0

    # Events from outside

    def adopt(self, assignments: Assignments) -> None:
        """Put other assignments in force; new environments are scanned in the next turn."""
        moved = self.sync_state.adopt(assignments)
        for name in [name for name in self._sources if name not in assignments.by_name]:
            del self._sources[name]
            self._standby.dismiss(name)
            self._pool.terminate_pushes(name)
            self._spares.terminate(name)
            self._spares.forget(name)
        for name, assignment in assignments.by_name.items():
            source = self._sources.get(name)
            self._standby.dismiss(name)  # it was made ready for the previous inventory
            self._pool.terminate_pushes(name, kept=assignment.servers)
            if not self._spares.locked_servers(name).issubset(assignment.servers):
                self._spares.terminate(name)
            if source is None or source.path != assignment.path:
                self._sources[name] = self._checks.track(assignment)
                self._to_scan[name] = False
                self._spares.forget(name)
            elif source.local != assignment.local:
                source.local = assignment.local
                source.scans.outdate()
                self._to_scan[name] = False
        for name, server in moved:
            self._spares.terminate(name)
            self._spares.used_up(name, server)
            self._pool.has_moved(name, server)
        self._to_scan = {
            name: self._to_scan[name] for name in self._to_scan if name in self._sources
        }
        self._next_rescan_seconds = min(
            self._next_rescan_seconds or float("inf"), self._clock() + assignments.rescan_seconds
        )

    @property
    def _settle_seconds(self) -> float:
        return self.sync_state.assignments.settle_seconds

    def _row(self, name: str) -> SourceRow:
        return self.sync_state.source(name)

    def hint(self, names: Iterable[str]) -> None:
        """Note that something may have changed in these sources."""
        now = self._clock()
        for name in names:
            source = self._sources.get(name)
            if source is not None:
                source.hint(now, self._settle_seconds)
                self.sync_state.source_hinted(name)
                self._spares.terminate(name)
                self._standby.source_changed(name)

    def sync(self, name: str) -> None:
        """Push a source now, at a person's request.

        Retries do not wait, nor does the source have to settle, and what looks unfinished in it is
        accepted.
        """
        source = self._sources[name]
        self._checks.tolerate(name, source)
        self.sync_state.retry_now(name)
        self._spares.terminate(name)
        source.demand(self._clock())

    def look_again(self, names: Iterable[str], servers: Collection[str]) -> None:
        """Have these servers looked at soon, because a command may have changed what they have."""
        for name in names:
            self.sync_state.doubt(name, servers)

    def pause(self, names: Iterable[str], *, paused: bool) -> None:
        """Pause or resume sources; a pause ends work on their servers, which is redone later."""
        for name in names:
            self.sync_state.store.put_source(replace(self._row(name), paused=paused))
            if paused:
                self._standby.dismiss(name)
                self._pool.terminate_pushes(name)
                self._spares.terminate(name)

    @property
    def activities(self) -> dict[str, Activity]:
        """What is going on in each source."""
        return {name: source.activity for name, source in self._sources.items()}

    # The turn of the loop

    def turn(self) -> None:
        """Do what is due."""
        now = self._clock()
        self._pool.kill_overdue()
        if now >= self._next_rescan_seconds:
            self._next_rescan_seconds = now + self.sync_state.assignments.rescan_seconds
            self._to_scan.update(dict.fromkeys(self._sources, False))
            self._spares.retry_failed()
        for name, source in self._sources.items():
            if source.activity.is_due(now):
                self._checks.check(name, source, now)
        for name, source in self._sources.items():
            self._make_ready(name, source, now)
            self._push(name, source)
        self._scan()
        self._make_spares()

    def next_seconds(self) -> float:
        """Return the seconds until the next turn is due, unless an event wakes the loop earlier."""
        now, wall = self._clock(), self._wall()
        until = [self._next_rescan_seconds - now, self._pool.next_seconds()]
        room = self._pool.seconds_to_room()
        until += [] if room is None else [room]
        for name, source in self._sources.items():
            if source.activity.check_seconds is not None:
                check = source.activity.check_seconds - now
                ahead = check - self._ready_seconds()
                until.append(check if self._standby.has(name) or ahead <= 0 else ahead)
            elif self._may_push(name, source):
                next_try = self.sync_state.next_try_seconds(name, self._pool.saturated_servers())
                until += [] if next_try is None else [next_try - wall]
        return max(0.02, min(until))

    # Making workers ready ahead of time

    def _ready_seconds(self) -> float:
        return min(READY_SECONDS, self._settle_seconds / 2)

    def _may_make_ready(self, name: str, source: TrackedSource) -> bool:
        row, activity = self._row(name), source.activity
        is_going_to_rest = not (activity.is_at_rest or activity.busy or activity.unfinished)
        return is_going_to_rest and bool(row.revision) and not row.paused

    def _make_ready(self, name: str, source: TrackedSource, now: float) -> None:
        """Make a worker ready before the source has settled; dismiss one that is not needed."""
        if self._standby.has(name):
            is_waited_for = source.is_changed or self._may_make_ready(name, source)
            if self._standby.is_expired(name) or not is_waited_for:
                self._standby.dismiss(name)
            return
        check_seconds = source.activity.check_seconds
        if check_seconds is None or now < check_seconds - self._ready_seconds():
            return
        if self._may_make_ready(name, source) and self._pool.has_room():
            servers = self._servers_due(name, changed=True)
            if servers:
                self._standby.prepare(name, servers)

    # Pushing and scanning

    def _push(self, name: str, source: TrackedSource) -> None:
        if not self._may_push(name, source):
            return
        servers = self._servers_due(name, changed=source.is_changed)
        locked = self._spares.locked_servers(name)
        if locked and source.is_changed:
            return  # the spare's worker was told to end, and will soon
        servers = tuple(server for server in servers if server not in locked)
        if servers:
            if not self._start_push(name, servers):
                return
            self.sync_state.push_started(name, servers)
        elif source.is_changed:
            self._to_scan[name] = True  # no push is due now, but a scan shows who lags
        source.is_changed = False

    def _servers_due(self, name: str, *, changed: bool) -> tuple[str, ...]:
        saturated = self._pool.saturated_servers()
        servers = self.sync_state.servers_due(name, changed=changed)
        return tuple(server for server in servers if server not in saturated)

    def _start_push(self, name: str, servers: tuple[str, ...]) -> bool:
        """Start a push in the worker made ready for it, else in another; return whether it did."""
        task = Task((name,), servers)
        if self._standby.start(name, task):
            return True
        return self._pool.has_room() and self._pool.start(task) is not None

    def _may_push(self, name: str, source: TrackedSource) -> bool:
        row = self._row(name)
        if row.paused or not source.activity.is_at_rest:
            return False
        if not self._standby.has(name) and not self._pool.has_room():
            return False
        # Without a revision, its first scan is under way; after an error, only a change helps.
        return source.is_changed or (bool(row.revision) and row.error is None)

    def _scan(self) -> None:
        if not self._to_scan or self._pool.is_scanning or not self._pool.can_start():
            return
        for is_settled in (True, False):
            names = tuple(n for n, settled in self._to_scan.items() if settled is is_settled)
            if names:
                digest_checks = () if is_settled else tuple(map(self._digest_check, names))
                if self._pool.start(
                    Task(names, is_settled=is_settled, digest_checks=digest_checks)
                ):
                    self._to_scan = {n: s for n, s in self._to_scan.items() if n not in names}
                return

    def _digest_check(self, name: str) -> DigestCheck:
        """Return the check that may spare a rescan; without a successful scan, its digest is ""."""
        source, row = self._sources[name], self._row(name)
        is_known = bool(row.revision) and row.error is None
        return DigestCheck(name, source.path, source.scans.digest if is_known else "")

    # Preparing the next push

    def _make_spares(self) -> None:
        """Have trees made for the next push to build on, while there is nothing else to do."""
        if self._pool.processes or self._to_scan:
            return
        for name, source in self._sources.items():
            if source.is_changed or not self._may_push(name, source):
                continue
            in_step = [row.server for row in self.sync_state.servers(name) if row.state == IN_STEP]
            if self._spares.make(name, in_step):
                return

    # Workers

    @property
    def processes(self) -> dict[int, WorkerProcess]:
        """The processes of the workers, by the file descriptor to wait for."""
        return self._pool.processes

    def read_worker(self, fd: int) -> None:
        """Handle what a worker has reported, or its end."""
        worker, messages = self._pool.read(fd)
        for message in messages:
            self._message_handler.handle(worker, message)
        if worker.process.is_over:
            self._message_handler.worker_ended(worker)

    def stop(self, within_seconds: float) -> None:
        """End every worker; unfinished work is done again after the next start."""
        self._pool.stop(within_seconds)
