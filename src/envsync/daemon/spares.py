"""Schedules the making of spare trees, and tracks where there is one.

What comes of them goes to the log alone: it is nobody's state. Without one the next push only
takes longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from envsync.daemon import transitions
from envsync.daemon.log import Log
from envsync.daemon.tasks import Task
from envsync.daemon.worker_pool import Worker, WorkerPool, crash_error
from envsync.errors import EnvsyncError, Locked

_ORDINARY = transitions.UNREACHABLE | {Locked.code}
"""Why no tree is made somewhere, where that needs no line in the log."""


@dataclass(slots=True)
class _Trees:
    """Those of one environment, by server."""

    made: set[str] = field(default_factory=set)
    """Where there is one, as far as one can be made."""
    failed: set[str] = field(default_factory=set)
    """Where it came to nothing: tried again after the next rescan."""
    logged: dict[str, str] = field(default_factory=dict)
    """What was logged last of why there is none."""


class Spares:
    """The spare trees of all environments. A worker that makes one is ended where it is in the
    way."""

    def __init__(self, pool: WorkerPool, log: Log) -> None:
        self._pool = pool
        self._log = log
        self._trees: defaultdict[str, _Trees] = defaultdict(_Trees)

    def make(self, environment: str, servers: Iterable[str]) -> bool:
        """Have one made on those of the servers that have none; whether that has begun."""
        made = self._trees[environment].made
        lacking = tuple(server for server in servers if server not in made)
        if not lacking or not self._pool.start(Task((environment,), lacking, makes_spare=True)):
            return False
        made.update(lacking)
        return True

    def used_up(self, environment: str, server: str) -> None:
        """Nothing is left there for the next push."""
        self._trees[environment].made.discard(server)
        self._trees[environment].logged.pop(server, None)

    def retry_failed(self) -> None:
        """Where one came to nothing, it may be had by now."""
        for trees in self._trees.values():
            trees.made -= trees.failed
            trees.failed.clear()

    def forget(self, environment: str) -> None:
        """Another environment goes by that name, or none."""
        self._trees.pop(environment, None)

    # The workers that make them

    def locked_servers(self, environment: str) -> frozenset[str]:
        """Where a worker makes one of it, and so has the lock."""
        return frozenset(
            server for worker in self._making(environment) for server in worker.task.servers
        )

    def terminate(self, environment: str) -> None:
        """End who makes one of it: it holds the lock there, and copies what is to be replaced."""
        making = self._making(environment)
        for worker in making:
            self._pool.terminate(worker)
        if making:
            self._trees[environment].made.clear()

    def _making(self, environment: str) -> list[Worker]:
        """A worker that even a kill does not end is in nobody's way: its lock yields to pushes."""
        return [
            worker
            for worker in self._pool.workers
            if worker.task.makes_spare and environment in worker.task.environments
            if not worker.is_killed
        ]

    def failed(self, environment: str, worker: Worker, error: EnvsyncError) -> None:
        """None was made, on the server that the error names or on all that it was to be. One line,
        and none where it would be the same again."""
        trees, servers = self._trees[environment], worker.task.servers
        server = error.server or ", ".join(servers)
        trees.failed.update([server] if server in servers else servers)
        if error.code not in _ORDINARY and trees.logged.get(server) != error.message:
            trees.logged[server] = error.message
            text = f"no tree was made there for the next push: {error.message}"
            self._log.warning(text, environment=environment, server=server, code=error.code)

    def worker_ended(self, environment: str, worker: Worker) -> None:
        """One that broke down has made none, as far as anybody knows."""
        if worker.process.exit_status and not worker.is_terminated:
            self.failed(environment, worker, crash_error(worker))
