"""Knows which servers have a spare tree, on which the next push can build.

Failures only go to the log and change no state, because without a spare tree the next push
merely takes longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from envsync.daemon import transitions
from envsync.daemon.log import Log
from envsync.daemon.worker import Worker
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


class SpareTrees:
    """The spare trees of all environments."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._trees: defaultdict[str, _Trees] = defaultdict(_Trees)

    def lacking(self, environment: str, servers: Iterable[str]) -> tuple[str, ...]:
        """Return those of `servers` on which one is to be made."""
        made = self._trees[environment].made
        return tuple(server for server in servers if server not in made)

    def started(self, environment: str, servers: Iterable[str]) -> None:
        """Note that a worker makes one on these servers."""
        self._trees[environment].made.update(servers)

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
        """Note the end of a worker that makes one; it failed if it broke down."""
        if worker.is_terminated:
            self._trees[environment].made.difference_update(worker.task.servers)
        elif worker.process.exit_status:
            self.failed(environment, worker, worker.crash_error())
