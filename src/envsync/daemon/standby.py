"""Standby workers, which are started and connected ahead of the push that they wait for."""

from __future__ import annotations

from collections.abc import Callable

from envsync.daemon.tasks import Task
from envsync.daemon.worker import Worker
from envsync.daemon.worker_pool import WorkerPool

STANDBY_MAX_SECONDS = 60.0
"""How long one is kept; a longer wait means that the source keeps changing."""


class Standby:
    """The standby workers, at most one for each environment. `clock` is the pool's."""

    def __init__(self, pool: WorkerPool, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._workers: dict[str, Worker] = {}

    def has(self, environment: str) -> bool:
        """Return whether a worker was prepared, and neither started nor dismissed since."""
        return environment in self._workers

    def is_expired(self, environment: str) -> bool:
        return self._clock() - self._workers[environment].since_seconds > STANDBY_MAX_SECONDS

    def prepare(self, environment: str, servers: tuple[str, ...]) -> None:
        """Start a worker that gets ready to push the environment to these servers."""
        worker = self._pool.start(Task((environment,), servers, awaits_start=True))
        if worker is not None:
            self._workers[environment] = worker

    def source_changed(self, environment: str) -> None:
        """Note that what a standby worker has seen of the source is outdated."""
        if environment in self._workers:
            self._workers[environment].is_source_changed = True

    def start(self, environment: str, task: Task) -> bool:
        """Let the standby worker begin and return True, if it is ready for exactly this task.

        Any other standby worker for the environment is dismissed.
        """
        worker = self._workers.get(environment)
        if worker is None or not worker.is_ready or worker.task != task:
            self.dismiss(environment)
            return False
        del self._workers[environment]
        self._pool.signal_start(worker)
        return True

    def dismiss(self, environment: str) -> None:
        """End the environment's standby worker, if there is one."""
        worker = self._workers.pop(environment, None)
        if worker is not None:
            self._pool.terminate(worker)
