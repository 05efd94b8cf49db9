"""Hands workers' reports to the sources and the sync state that they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from envsync.daemon import transitions
from envsync.daemon.spares import Spares
from envsync.daemon.sync_state import SyncState
from envsync.daemon.tracked_source import TrackedSource
from envsync.daemon.worker_messages import DigestTaken, Failure, Message, PushEnded, SourceScanned
from envsync.daemon.worker_pool import Worker, crash_error


class MessageHandler:
    """Applies workers' messages; `hint` is called for a source that a scan found changed."""

    def __init__(
        self,
        sync_state: SyncState,
        sources: Mapping[str, TrackedSource],
        spares: Spares,
        hint: Callable[[str], None],
    ) -> None:
        self._sync_state = sync_state
        self._sources = sources
        self._spares = spares
        self._hint = hint

    def handle(self, worker: Worker, message: Message) -> None:
        """Apply one message of a worker."""
        name = message.environment
        if name not in self._sources or name not in worker.task.environments:
            return
        if isinstance(message, DigestTaken):
            self._digest_taken(worker, message)
            return
        worker.answered.add(name)
        if isinstance(message, Failure):
            self._failed(worker, message)
        elif isinstance(message, PushEnded):
            self._push_ended(worker, message)
        else:
            self._source_scanned(worker, message)

    def _digest_taken(self, worker: Worker, message: DigestTaken) -> None:
        """Note a source's change digest; if it differs, the worker goes on with a scan."""
        source = self._sources[message.environment]
        source.digest_taken(message.glance, unchanged=message.unchanged)
        if message.unchanged:
            worker.answered.add(source.name)

    def _failed(self, worker: Worker, message: Failure) -> None:
        if worker.task.makes_spare:
            self._spares.failed(message.environment, worker, message.error)
        else:
            worker.source_failed = True
            self._sources[message.environment].failed(message.error)

    def _push_ended(self, worker: Worker, message: PushEnded) -> None:
        name, server = message.environment, message.report.server
        worker.reported_servers.add(server)
        if server in worker.moved_servers:
            return
        if message.error is not None and transitions.is_source_error(message.error, server):
            worker.source_failed = True
            self._sources[name].failed(message.error)
        if message.report.wants_spare:
            self._spares.used_up(name, server)
        self._sync_state.push_ended(message)

    def _source_scanned(self, worker: Worker, message: SourceScanned) -> None:
        source, task = self._sources[message.environment], worker.task
        before = source.row.revision
        if source.scanned(message.revision, worker.start_number, by_push=task.is_push):
            self._sync_state.source_scanned(source.name, message.revision)
            if message.revision != before and task.is_scan and not task.is_settled:
                self._hint(source.name)

    def worker_ended(self, worker: Worker) -> None:
        """Account for what a worker left undone when its process ended."""
        task = worker.task
        names = [name for name in task.environments if name in self._sources]
        if not worker.has_started:
            return  # whoever wants to start it will notice
        if task.makes_spare:
            for name in names:
                self._spares.worker_ended(name, worker)
        elif task.is_push and worker.is_terminated:
            self._push_terminated(names, worker)
        else:
            self._ended_by_itself(names, worker)

    def _push_terminated(self, names: list[str], worker: Worker) -> None:
        """Have the rest of a terminated push done again, including the scan of its source."""
        for name in names:
            self._sync_state.worker_ended(name, _silent_servers(worker), None)
            if name not in worker.answered:
                self._sources[name].push_terminated()

    def _ended_by_itself(self, names: list[str], worker: Worker) -> None:
        task, error = worker.task, crash_error(worker)
        for name in names:
            source = self._sources[name]
            if task.is_push:
                failure = None if worker.source_failed else error
                self._sync_state.worker_ended(name, _silent_servers(worker), failure)
            # A push that did not report on its source is the source's failure only if that had an
            # error before: then nothing else looks at the source again before the next rescan.
            is_in_doubt = task.is_scan or source.row.error is not None
            if name not in worker.answered and is_in_doubt:
                source.failed(error)


def _silent_servers(worker: Worker) -> tuple[str, ...]:
    """Return the servers of the worker's task that it has not reported on.

    Those that it has reported can be in another worker's task by now.
    """
    known = worker.reported_servers | worker.moved_servers
    return tuple(server for server in worker.task.servers if server not in known)
