"""Standby workers: started and connected ahead of the push that they wait for."""

from __future__ import annotations

from collections.abc import Callable

from envsync.daemon.tasks import Task
from envsync.daemon.worker_pool import Worker, WorkerPool

STANDBY_MAX_SECONDS = 60.0
"""One is not kept for longer: somebody keeps changing the source."""


class Standby:
    """At most one worker for each environment. `clock` is the pool's."""

    def __init__(self, pool: WorkerPool, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._workers: dict[str, Worker] = {}

    def has(self, environment: str) -> bool:
        """Whether one was made ready, and neither started nor dismissed since."""
        return environment in self._workers

    def is_expired(self, environment: str) -> bool:
        return self._clock() - self._workers[environment].since_seconds > STANDBY_MAX_SECONDS

    def prepare(self, environment: str, servers: tuple[str, ...]) -> None:
        """Make one ready to push it to these servers."""
        worker = self._pool.start(Task((environment,), servers, awaits_start=True))
        if worker is not None:
            self._workers[environment] = worker

    def source_changed(self, environment: str) -> None:
        """What one has seen of it ahead does not count."""
        if environment in self._workers:
            self._workers[environment].is_source_changed = True

    def start(self, environment: str, task: Task) -> bool:
        """Start the one that is ready for exactly that. Any other is dismissed."""
        worker = self._workers.get(environment)
        if worker is None or not worker.is_ready or worker.task != task:
            self.dismiss(environment)
            return False
        del self._workers[environment]
        self._pool.signal_start(worker)
        return True

    def dismiss(self, environment: str) -> None:
        """Nobody needs it any more."""
        worker = self._workers.pop(environment, None)
        if worker is not None:
            self._pool.terminate(worker)
