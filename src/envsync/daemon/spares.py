"""Schedules the making of spare trees, and tracks which servers have one.

Failures only go to the log and change no state, because without a spare tree the next push
merely takes longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from envsync.daemon import transitions
from envsync.daemon.log import Log
from envsync.daemon.tasks import Task
from envsync.daemon.worker import Worker
from envsync.daemon.worker_pool import WorkerPool
from envsync.errors import EnvsyncError, Locked

_ORDINARY = transitions.UNREACHABLE | {Locked.code}
"""Error codes for which a failure needs no line in the log."""


@dataclass(slots=True)
class _Trees:
    """The spare trees of one environment, by server."""

    made: set[str] = field(default_factory=set)
    """The servers on which one was made, or was tried."""
    failed: set[str] = field(default_factory=set)
    """The servers on which that failed; tried again after the next rescan."""
    logged: dict[str, str] = field(default_factory=dict)
    """The reason last logged for each server on which that failed."""


class Spares:
    """The spare trees of all environments, and the workers that make them."""

    def __init__(self, pool: WorkerPool, log: Log) -> None:
        self._pool = pool
        self._log = log
        self._trees: defaultdict[str, _Trees] = defaultdict(_Trees)

    def make(self, environment: str, servers: Iterable[str]) -> bool:
        """Start a worker that makes one on those of `servers` that have none.

        Returns whether one was started.
        """
        made = self._trees[environment].made
        lacking = tuple(server for server in servers if server not in made)
        if not lacking or not self._pool.start(Task((environment,), lacking, makes_spare=True)):
            return False
        made.update(lacking)
        return True

    def used_up(self, environment: str, server: str) -> None:
        """Note that a push has used up the spare tree on a server."""
        self._trees[environment].made.discard(server)
        self._trees[environment].logged.pop(server, None)

    def retry_failed(self) -> None:
        """Allow another try on all servers on which making one failed."""
        for trees in self._trees.values():
            trees.made -= trees.failed
            trees.failed.clear()

    def forget(self, environment: str) -> None:
        """Forget an environment that is gone, or whose name means another one now."""
        self._trees.pop(environment, None)

    # The workers that make them

    def locked_servers(self, environment: str) -> frozenset[str]:
        """Return the servers on which a worker has to make one, and so may hold the lock."""
        return frozenset(
            server for worker in self._making(environment) for server in worker.task.servers
        )

    def terminate(self, environment: str) -> None:
        """End the workers that make one: they hold the lock, and copy a tree soon outdated."""
        for worker in self._making(environment):
            self._pool.terminate(worker)
            self._trees[environment].made.difference_update(worker.task.servers)

    def _making(self, environment: str) -> list[Worker]:
        """Return the workers that are making one.

        Those that even a kill has not ended are left out: their lock yields to pushes.
        """
        return [
            worker
            for worker in self._pool.workers
            if worker.task.makes_spare and environment in worker.task.environments
            if not worker.is_killed
        ]

    def failed(self, environment: str, worker: Worker, error: EnvsyncError) -> None:
        """Note a failure on the error's server, or on all of the worker's if it names none.

        The log gets one line, unless it is the same as the one before.
        """
        trees, servers = self._trees[environment], worker.task.servers
        server = error.server or ", ".join(servers)
        trees.failed.update([server] if server in servers else servers)
        if error.code not in _ORDINARY and trees.logged.get(server) != error.message:
            trees.logged[server] = error.message
            text = f"no tree was prepared there for the next push: {error.message}"
            self._log.warning(text, environment=environment, server=server, code=error.code)

    def worker_ended(self, environment: str, worker: Worker) -> None:
        """Count a worker that broke down as failed."""
        if worker.process.exit_status and not worker.is_terminated:
            self.failed(environment, worker, worker.crash_error())
