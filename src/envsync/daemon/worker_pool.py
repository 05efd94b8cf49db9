"""The pool of workers, which alone starts and ends their processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from envsync.daemon import worker_limits
from envsync.daemon.log import Log
from envsync.daemon.tasks import START, START_CHANGED, Task
from envsync.daemon.worker import Worker
from envsync.daemon.worker_messages import Message, parse
from envsync.daemon.worker_process import WorkerProcess

START_AGAIN_SECONDS = 10.0
"""The pause after a process could not be started."""

StartProcess = Callable[[Task], WorkerProcess]


class WorkerPool:
    """The running workers. `start_process` starts one for a task; `clock` is monotonic.

    A *standby* worker is started and connected ahead of the push that it waits for.
    """

    def __init__(self, start_process: StartProcess, log: Log, clock: Callable[[], float]) -> None:
        self._start_process = start_process
        self._log = log
        self._clock = clock
        self._workers: dict[int, Worker] = {}
        self._standby: dict[str, Worker] = {}
        """The standby worker of each environment, until it is started or dismissed; one that has
        died in the meantime is not replaced before it is needed."""
        self._started = 0
        self._may_start_seconds = 0.0

    @property
    def processes(self) -> dict[int, WorkerProcess]:
        """The worker processes by the file descriptor to wait for."""
        return {fd: worker.process for fd, worker in self._workers.items()}

    # What may be started

    def scan_seconds(self) -> float:
        """Return when a scan can begin; one at a time, which needs no room."""
        seconds = worker_limits.scan_seconds(self._workers.values(), self._clock())
        return max(seconds, self._may_start_seconds)

    def is_scanned(self, environment: str) -> bool:
        """Return whether a worker is scanning the environment, however long that takes.

        One that scans an earlier path of it does not count.
        """
        return any(
            worker.task.is_scan and environment not in worker.outdated_sources
            for worker in self._of(environment)
        )

    def may_push(self, environment: str) -> bool:
        """Return whether there is a worker, or room for one, that pushes the environment."""
        return environment in self._standby or self._has_room()

    def may_make_spares(self) -> bool:
        """Return whether nothing else is going on, so that spare trees can be made."""
        return self._can_start() and not self._workers

    def saturated_servers(self) -> frozenset[str]:
        """Return servers that get no further push now, so that a slow one does not take all."""
        return worker_limits.saturated_servers(self._workers.values())

    def locked_servers(self, environment: str) -> frozenset[str]:
        """Return the servers on which a spare tree is being made, which may hold the lock there.

        If even a kill has not ended that, the lock yields to pushes.
        """
        return frozenset(
            server
            for worker in self._of(environment)
            if worker.task.makes_spare and not worker.is_killed
            for server in worker.task.servers
        )

    def _has_room(self) -> bool:
        return self._can_start() and worker_limits.has_room(self._workers.values(), self._clock())

    def _can_start(self) -> bool:
        return self._clock() >= self._may_start_seconds

    def _of(self, environment: str) -> list[Worker]:
        workers = self._workers.values()
        return [worker for worker in workers if environment in worker.task.environments]

    # Starting

    def start(self, task: Task) -> Worker | None:
        """Start a worker for a task; None if that failed, and then no others for some seconds."""
        try:
            process = self._start_process(task)
        except OSError as error:
            self._log.error(f"cannot start a process: {error}")
            self._may_start_seconds = self._clock() + START_AGAIN_SECONDS
            return None
        worker = Worker(task, process, self._clock())
        if not task.awaits_start:
            self._set_start_number(worker)
        self._workers[process.fd] = worker
        return worker

    def push(self, environment: str, servers: tuple[str, ...]) -> bool:
        """Start a push in the standby worker if that is ready for it, else in another worker.

        Return whether one was started; there may be no room.
        """
        standby = self._standby.get(environment)
        if standby is None or not standby.is_ready or standby.task.servers != servers:
            self.dismiss_standby(environment)
            return self._has_room() and self.start(Task((environment,), servers)) is not None
        del self._standby[environment]
        self._set_start_number(standby)
        standby.process.send(START_CHANGED if standby.is_source_changed else START)
        return True

    def prepare_push(self, environment: str, servers: tuple[str, ...]) -> None:
        """Start a standby worker for a push to these servers, if there is room."""
        worker = None
        if self._has_room():
            worker = self.start(Task((environment,), servers, awaits_start=True))
        if worker is not None:
            self._standby[environment] = worker

    def has_standby(self, environment: str) -> bool:
        return environment in self._standby

    def _set_start_number(self, worker: Worker) -> None:
        self._started += 1
        worker.start_number = self._started
        worker.heard_seconds = self._clock()

    # What workers report

    def read(self, fd: int) -> tuple[Worker, list[Message]]:
        """Return the worker and its new messages; without those of a worker not started yet."""
        worker = self._workers[fd]
        documents = worker.process.read()
        if worker.process.is_over:
            del self._workers[fd]
        if not (documents and worker.has_started):
            return worker, []
        worker.heard_seconds = self._clock()
        messages = [message for message in map(parse, documents) if message is not None]
        for message in messages:
            worker.note(message)
        return worker, messages

    # Ending

    def source_changed(self, environment: str) -> None:
        """Note that what workers have seen of the source is outdated; end the making of spares."""
        if environment in self._standby:
            self._standby[environment].is_source_changed = True
        self.end_spares(environment)

    def end_spares(self, environment: str) -> None:
        """End workers that make spare trees: they hold locks, and copy trees soon outdated."""
        for worker in self._of(environment):
            if worker.task.makes_spare:
                self._terminate(worker)

    def end_work(self, environment: str, kept: Collection[str] = ()) -> None:
        """End all work on the environment's servers, if some of that is not on those `kept`."""
        self.dismiss_standby(environment)
        for worker in self._of(environment):
            if set(worker.task.servers) - worker.reported_servers - set(kept):
                self._terminate(worker)

    def abandon(self, environment: str) -> None:
        """End all work on an environment that is kept no longer, whatever it still reports.

        The environment may come back soon, with other places.
        """
        self.end_work(environment)
        self.source_moved(environment)
        for worker in self._of(environment):
            worker.moved_servers.update(worker.task.servers)

    def source_moved(self, environment: str) -> None:
        """Note that the environment is at another path now; running pushes of the old one go on."""
        for worker in self._of(environment):
            worker.outdated_sources.add(environment)

    def server_moved(self, environment: str, server: str) -> None:
        """Note that a server's name leads elsewhere; running pushes go on at its old place."""
        self.end_spares(environment)
        for worker in self._of(environment):
            worker.moved_servers.add(server)

    def dismiss_standby(self, environment: str) -> None:
        """End the environment's standby worker, if there is one."""
        worker = self._standby.pop(environment, None)
        if worker is not None:
            self._terminate(worker)

    def _terminate(self, worker: Worker) -> None:
        """Tell a worker to end; `end_overdue` kills it if it does not in time."""
        if not worker.is_terminated:
            worker.terminated_seconds = self._clock()
            worker.process.terminate()

    def end_overdue(self) -> None:
        """Dismiss standby workers that have waited too long, and kill workers that do not end.

        Their end is noticed by `read` as usual. One that cannot be killed is logged daily.
        """
        now = self._clock()
        for name, worker in list(self._standby.items()):
            if now > worker.heard_seconds + worker_limits.STANDBY_MAX_SECONDS:
                self.dismiss_standby(name)
        for worker in self._workers.values():
            why = worker_limits.why_kill(worker, now)
            if why:
                self._log.error(f"killing process {worker.process.pid}: {why}")
                worker.process.kill()
                worker.is_killed = True
                worker.heard_seconds = now

    def next_seconds(self) -> float:
        """Return when a worker has to be killed or there can be room for one; infinite if never."""
        if not self._can_start():
            room_seconds = self._may_start_seconds
        else:
            room_seconds = worker_limits.room_seconds(self._workers.values(), self._clock())
        return min([room_seconds, *map(worker_limits.end_seconds, self._workers.values())])

    def stop(self, within_seconds: float) -> None:
        """End all workers; their tasks are done again after the next start."""
        deadline = time.monotonic() + within_seconds
        processes = [worker.process for worker in self._workers.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(deadline)
        self._workers.clear()
