"""The pool of workers: limits their number, starts them, and ends or kills them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection

from envsync.daemon.log import Log
from envsync.daemon.tasks import START, START_CHANGED, Task
from envsync.daemon.worker import Worker
from envsync.daemon.worker_messages import Message, parse
from envsync.daemon.worker_process import WorkerProcess

PUSHING_MAX = 4
"""The most workers that push at a time, without those that wait for a slow server; also the most
that push to one server."""

WORKERS_MAX = 16
"""The most workers, with those that wait for a slow server."""

SLOW_SECONDS = 180.0
"""A worker silent for this long waits for a slow or silent server, and does not count against
`PUSHING_MAX` any more."""

START_AGAIN_SECONDS = 10.0

SILENCE_MAX_SECONDS = 86400.0
"""A worker silent for this long is killed: what it waits for does not end by itself (a disk that
is gone, a stopped process), and no other worker can take its place."""

END_MAX_SECONDS = 10.0
"""A worker that still runs this long after it was told to end is killed."""

StartProcess = Callable[[Task], WorkerProcess]


class WorkerPool:
    """The running workers. `start` starts a process for a task; `clock` is monotonic."""

    def __init__(self, start: StartProcess, log: Log, clock: Callable[[], float]) -> None:
        self._start = start
        self._log = log
        self._clock = clock
        self._workers: dict[int, Worker] = {}
        self._started = 0
        self._may_start_seconds = 0.0

    @property
    def processes(self) -> dict[int, WorkerProcess]:
        """The worker processes by the file descriptor to wait for."""
        return {fd: worker.process for fd, worker in self._workers.items()}

    @property
    def workers(self) -> list[Worker]:
        return list(self._workers.values())

    @property
    def is_scanning(self) -> bool:
        return any(worker.task.is_scan for worker in self._workers.values())

    def has_room(self) -> bool:
        """Return whether one more worker can push now."""
        few = len(self._workers) < WORKERS_MAX
        return self.can_start() and few and len(self._occupying()) < PUSHING_MAX

    def can_start(self) -> bool:
        """Return whether a process can be started, as far as is known; enough for a scan."""
        return self._clock() >= self._may_start_seconds

    def next_seconds(self) -> float:
        """Return when a worker has to be killed, or there can be room for one; else infinity."""
        ends = map(self._end_seconds, self._workers.values())
        return min(*ends, self._room_seconds(), math.inf)

    def _room_seconds(self) -> float:
        if not self.can_start():
            return self._may_start_seconds
        if self.has_room():
            return math.inf
        latest = [worker.message_seconds for worker in self._occupying() if worker.has_started]
        return min(latest, default=math.inf) + SLOW_SECONDS

    def _occupying(self) -> list[Worker]:
        slow_before = self._clock() - SLOW_SECONDS
        workers = [worker for worker in self._workers.values() if not worker.task.is_scan]
        return [
            worker
            for worker in workers
            if not worker.is_killed
            and (not worker.has_started or worker.message_seconds > slow_before)
        ]

    def saturated_servers(self) -> frozenset[str]:
        """Return servers that get no further push now, so that a slow one does not take all."""
        awaited = Counter(
            server
            for worker in self._workers.values()
            if worker.task.is_push and worker.has_started
            for server in worker.awaited_servers
        )
        return frozenset(name for name, number in awaited.items() if number >= PUSHING_MAX)

    def start(self, task: Task) -> Worker | None:
        """Start a worker for a task; None if that failed, and then no others for some seconds."""
        try:
            process = self._start(task)
        except OSError as error:
            self._log.error(f"cannot start a process: {error}")
            self._may_start_seconds = self._clock() + START_AGAIN_SECONDS
            return None
        worker = Worker(task, process, self._clock())
        if not task.awaits_start:
            self._set_start_number(worker)
        self._workers[process.fd] = worker
        return worker

    def signal_start(self, worker: Worker) -> None:
        """Let a standby worker begin its task."""
        self._set_start_number(worker)
        worker.process.send(START_CHANGED if worker.is_source_changed else START)

    def _set_start_number(self, worker: Worker) -> None:
        self._started += 1
        worker.start_number = self._started
        worker.message_seconds = self._clock()

    def read(self, fd: int) -> tuple[Worker, list[Message]]:
        """Return the worker and its new messages; without those of a worker not started yet."""
        worker = self._workers[fd]
        documents = worker.process.read()
        if documents:
            worker.message_seconds = self._clock()
        if worker.process.is_over:
            del self._workers[fd]
        if not worker.has_started:
            return worker, []
        messages = [found for one in documents if (found := parse(one)) is not None]
        for message in messages:
            worker.note(message)
        return worker, messages

    def terminate(self, worker: Worker) -> None:
        """Tell a worker to end; `kill_overdue` kills it if it does not in time."""
        if worker.terminated_seconds is None:
            worker.terminated_seconds = self._clock()
        worker.process.terminate()

    def terminate_pushes(self, environment: str, kept: Collection[str] = ()) -> None:
        """End the environment's running pushes that have a server left which is not in `kept`."""
        for worker in self._workers.values():
            task = worker.task
            is_push = task.is_push and worker.has_started and environment in task.environments
            left = set(task.servers) - worker.reported_servers - set(kept)
            if is_push and left and not worker.is_terminated:
                self.terminate(worker)

    def kill_overdue(self) -> None:
        """Kill workers that were told to end and have not, or were silent for too long.

        Their end is noticed by `read` as usual. One that cannot be killed is logged daily.
        """
        for worker in self._workers.values():
            why = self._overdue(worker)
            if why:
                self._log.error(f"killing process {worker.process.pid}: {why}")
                worker.process.kill()
                worker.is_killed = True
                worker.message_seconds = self._clock()

    def _overdue(self, worker: Worker) -> str:
        if self._clock() >= self._end_seconds(worker):
            return "it did not end when told to"
        is_silent = self._clock() - worker.message_seconds > SILENCE_MAX_SECONDS
        return "it reports nothing any more" if is_silent and worker.has_started else ""

    def _end_seconds(self, worker: Worker) -> float:
        """Return by when a worker that was told to end has to have ended."""
        if worker.terminated_seconds is None or worker.is_killed:
            return math.inf
        return worker.terminated_seconds + END_MAX_SECONDS

    def has_moved(self, environment: str, server: str) -> None:
        """Note that a server's name leads elsewhere; running pushes go on at its old place."""
        for worker in self._workers.values():
            if environment in worker.task.environments:
                worker.moved_servers.add(server)

    def stop(self, within_seconds: float) -> None:
        """End all workers; their tasks are done again after the next start."""
        deadline = time.monotonic() + within_seconds
        processes = [worker.process for worker in self._workers.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(deadline)
        self._workers.clear()
