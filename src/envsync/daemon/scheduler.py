"""Schedules the work: has sources checked after a hint, and workers scan and push them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from envsync.daemon.assignments import Assignment, Assignments
from envsync.daemon.log import Log
from envsync.daemon.message_handler import MessageHandler
from envsync.daemon.rows import IN_STEP
from envsync.daemon.source_state import DUE_SETTLED, NOT_DUE
from envsync.daemon.spare_trees import SpareTrees
from envsync.daemon.store import Store
from envsync.daemon.sync_state import SyncState
from envsync.daemon.tasks import Task
from envsync.daemon.tracked_source import TrackedSource
from envsync.daemon.triggers import Activity
from envsync.daemon.worker_pool import StartProcess, WorkerPool
from envsync.daemon.worker_process import WorkerProcess

READY_SECONDS = 5.0
"""How long before a source may be pushed a worker is made ready for it, which is the time needed to
start one and to connect."""

TOGETHER_SECONDS = 12.0
"""A try takes along the servers that are due so soon after, because a worker for each of many that
are off would keep the machine busy. The tries of one that is off are spread over this time."""


class Scheduler:
    """The daemon's work on all sources.

    `start` gives a task to a new process. Times are in monotonic seconds, except those of `wall`.
    `on_checked` is called after each check of a source, as a turn can have many, and they can take
    seconds.
    """

    def __init__(
        self,
        store: Store,
        log: Log,
        start: StartProcess,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        on_checked: Callable[[], None] = lambda: None,
    ) -> None:
        self.sources: dict[str, TrackedSource] = {}
        self.sync_state = SyncState(store, log, wall, jitter)
        self._store = store
        self._log = log
        self._clock = clock
        self._wall = wall
        self._on_checked = on_checked
        self._pool = WorkerPool(start, log, clock)
        self._spare_trees = SpareTrees(log)
        self._message_handler = MessageHandler(
            self.sync_state, self.sources, self._spare_trees, self.hint
        )
        self._next_rescan_seconds = math.inf

    # Events from outside

    def adopt(self, assignments: Assignments) -> None:
        """Put other assignments in force; new environments are scanned in the next turn."""
        with self._store.transaction():
            moved = self.sync_state.adopt(assignments)
        for name in self._store.state.followed.keys() - assignments.by_name.keys():
            row = self._store.state.sources[name]
            self._store.put_source(replace(row, is_followed=False))
            self.sources.pop(name, None)
            self._pool.abandon(name)
            self._spare_trees.forget(name)
        for name, assignment in assignments.by_name.items():
            self._pool.end_work(name, kept=assignment.servers)
            self._track(assignment)
        for name, server in moved:
            self._spare_trees.used_up(name, server)
            self._pool.server_moved(name, server)
        self._next_rescan_seconds = min(
            self._next_rescan_seconds, self._clock() + assignments.rescan_seconds
        )

    def _track(self, assignment: Assignment) -> None:
        name, source = assignment.environment, self.sources.get(assignment.environment)
        if source is not None and source.path == assignment.path:
            source.adopt(assignment)
            return
        self._pool.source_moved(name)
        self.sources[name] = TrackedSource(
            assignment, self._store, self._log, self._clock, self._wall
        )
        self._spare_trees.forget(name)

    def set_polled(self, names: Collection[str]) -> None:
        """Say which sources are polled; all others are watched."""
        for source in self.sources.values():
            source.set_polled(source.name in names)

    def hint(self, names: Iterable[str]) -> None:
        """Note that something may have changed in these sources."""
        for name in names:
            if name in self.sources:
                self.sources[name].hint()
                self._pool.source_changed(name)

    def sync(self, name: str) -> tuple[str, ...]:
        """Push a source now, at a person's request.

        Retries do not wait, nor does the source have to settle. What looks unfinished in it is
        accepted, and returned.
        """
        accepted = self.sources[name].demand()
        with self._store.transaction():
            self.sync_state.retry_now(name)
        self._pool.end_spares(name)
        return accepted

    def look_again(
        self,
        names: Iterable[str],
        servers: Collection[str],
        pushed: Mapping[str, str] = MappingProxyType({}),
    ) -> list[str]:
        """Have these servers looked at soon, because a command may have changed what they have.

        `pushed` is the source's revision that it has left on some of them. Return the sources that
        are pushed to one of them.
        """
        with self._store.transaction():
            found = [name for name in names if self.sync_state.look_again(name, servers)]
            for name in found:
                if self.sources[name].is_kept_back:
                    self._note_pushed(name, pushed)
        return found

    def _note_pushed(self, name: str, pushed: Mapping[str, str]) -> None:
        """Take a command's word for what it has pushed, because no push will look there soon.

        A scan finds out whether that is the source's revision.
        """
        for server in self.sync_state.pushed_by_hand(name, pushed):
            self._spare_trees.used_up(name, server)
            self.sources[name].rescan()

    def pause(self, names: Iterable[str], *, paused: bool) -> list[str]:
        """Pause or resume sources; a pause ends work on their servers, which is redone later.

        Return those that were not paused, or not running, already.
        """
        changed = [name for name in names if self.sources[name].row.paused != paused]
        for name in changed:
            self.sources[name].set_paused(paused)
            if paused:
                self._pool.end_work(name)
        return changed

    @property
    def activities(self) -> dict[str, Activity]:
        """What is going on in each source."""
        return {name: source.state.activity for name, source in self.sources.items()}

    # The turn of the loop

    def turn(self) -> float:
        """Do what is due, and return when the next turn is due, unless an event comes earlier."""
        now = self._clock()
        self._pool.end_overdue()
        if now >= self._next_rescan_seconds:
            self._next_rescan_seconds = now + self.sync_state.assignments.rescan_seconds
            for source in self.sources.values():
                source.rescan()
            self._spare_trees.retry_failed()
        for source in self.sources.values():
            source.look_for_installers()
            if now >= source.check_seconds:
                source.check()
                self._on_checked()
        next_times = [self._next_rescan_seconds]
        for source in self.sources.values():
            next_times += [
                source.look_seconds,
                source.check_seconds,
                self._make_ready(source, now),
                self._push(source),
            ]
        next_times.append(self._scan(now))
        self._make_spares()
        return min(*next_times, self._pool.next_seconds())

    # Making workers ready ahead of time

    def _make_ready(self, source: TrackedSource, now: float) -> float:
        """Make a worker ready before the source has settled; dismiss one that is not needed.

        Return when to make one ready, if that is not now.
        """
        if self._pool.has_standby(source.name):
            if not (source.state.is_changed or source.state.is_coming_to_rest):
                self._pool.dismiss_standby(source.name)
        elif source.state.is_coming_to_rest:
            ahead_seconds = min(READY_SECONDS, source.assignment.settle_seconds / 2)
            ready_seconds = source.state.activity.check_seconds - ahead_seconds
            if now < ready_seconds:
                return ready_seconds
            servers = self._unsaturated(self.sync_state.reachable_servers(source.name))
            if servers:
                self._pool.prepare_push(source.name, servers)
        return math.inf

    # Pushing and scanning

    def _push(self, source: TrackedSource) -> float:
        """Push a change, and to servers that are due; return when the next ones are."""
        if source.state.is_changed:
            self._push_change(source)
        is_known = source.state.may_be_pushed and not source.state.is_changed
        return self._push_due(source) if is_known else math.inf

    def _push_change(self, source: TrackedSource) -> None:
        """Push to all servers that can be reached, once the source is at rest.

        If there are none, or the source is paused, a scan shows which servers lag.
        """
        if not source.state.activity.is_at_rest:
            return
        if source.row.paused:
            source.scan_instead()
            return
        if self._pool.locked_servers(source.name) or not self._pool.may_push(source.name):
            return  # a spare's worker was told to end, and will soon
        servers = self._unsaturated(self.sync_state.reachable_servers(source.name))
        if servers:
            self._start_push(source, servers)
        else:
            source.scan_instead()

    def _push_due(self, source: TrackedSource) -> float:
        """Push to the servers that are due; return when the next ones are."""
        if not self._pool.may_push(source.name):
            return math.inf
        now = self._clock()
        due = self.sync_state.due_in_seconds(source.name, source.row.revision)
        left = self._unsaturated(due)
        is_due = any(due[name] <= 0 for name in left)
        until_seconds = TOGETHER_SECONDS if is_due else 0.0
        locked = self._pool.locked_servers(source.name)
        servers = tuple(name for name in left if due[name] <= until_seconds and name not in locked)
        self._start_push(source, servers)
        later = (due[name] for name in left if due[name] > until_seconds)
        return now + min(later, default=math.inf)

    def _start_push(self, source: TrackedSource, servers: tuple[str, ...]) -> None:
        if servers and self._pool.push(source.name, servers):
            with self._store.transaction():
                self.sync_state.push_started(source.name, servers)
            source.push_started()

    def _unsaturated(self, servers: Iterable[str]) -> tuple[str, ...]:
        """Return those of the servers that may get a further push now."""
        saturated = self._pool.saturated_servers()
        return tuple(server for server in servers if server not in saturated)

    def _scan(self, now: float) -> float:
        """Begin a scan of sources for which it is due; return when the next can begin."""
        waiting = [
            source
            for source in self.sources.values()
            if source.state.scan != NOT_DUE and not self._pool.is_scanned(source.name)
        ]
        together = _scanned_together(waiting)
        if together and now >= self._pool.scan_seconds():
            names = tuple(source.name for source in together)
            is_settled = together[0].state.scan == DUE_SETTLED
            if self._pool.start(Task(names, is_settled=is_settled)):
                for source in together:
                    source.scan_started()
                    waiting.remove(source)
        return self._pool.scan_seconds() if waiting else math.inf

    # Preparing the next push

    def _make_spares(self) -> None:
        """Have trees made for the next push to build on, while there is nothing else to do."""
        is_scan_due = any(source.state.scan != NOT_DUE for source in self.sources.values())
        if is_scan_due or not self._pool.may_make_spares():
            return
        for name, source in self.sources.items():
            if source.state.is_changed or not source.state.may_be_pushed:
                continue
            in_step = [row.server for row in self.sync_state.servers(name) if row.state == IN_STEP]
            servers = self._spare_trees.lacking(name, in_step)
            if servers:
                if self._pool.start(Task((name,), servers, makes_spare=True)):
                    self._spare_trees.started(name, servers)
                return

    # Workers

    @property
    def processes(self) -> dict[int, WorkerProcess]:
        """The processes of the workers, by the file descriptor to wait for."""
        return self._pool.processes

    def read_worker(self, fd: int) -> None:
        """Handle what a worker has reported, or its end."""
        worker, messages = self._pool.read(fd)
        with self._store.transaction():
            for message in messages:
                self._message_handler.handle(worker, message)
            if worker.process.is_over:
                self._message_handler.worker_ended(worker)

    def stop(self, within_seconds: float) -> None:
        """End every worker; unfinished work is done again after the next start."""
        self._pool.stop(within_seconds)


def _scanned_together(waiting: Sequence[TrackedSource]) -> list[TrackedSource]:
    """Return those of the sources that one worker scans next.

    A first scan is a worker's own: pushes wait for it, so one that hangs must not hold up others.
    """
    settled = [source for source in waiting if source.state.scan == DUE_SETTLED]
    first = [source for source in settled or waiting if not source.state.known_by]
    return first[:1] or settled or [*waiting]
