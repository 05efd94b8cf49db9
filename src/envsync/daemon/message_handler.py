"""Hands workers' reports to the sources and the sync state that they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from envsync.daemon.spare_trees import SpareTrees
from envsync.daemon.sync_state import SyncState
from envsync.daemon.tracked_source import TrackedSource
from envsync.daemon.worker import Worker
from envsync.daemon.worker_messages import Failure, Message, PushBegun, PushEnded
from envsync.errors import EnvsyncError


class MessageHandler:
    """Applies workers' messages; `hint` is called for sources that a scan found changed."""

    def __init__(
        self,
        sync_state: SyncState,
        sources: Mapping[str, TrackedSource],
        spare_trees: SpareTrees,
        hint: Callable[[Iterable[str]], None],
    ) -> None:
        self._sync_state = sync_state
        self._sources = sources
        self._spare_trees = spare_trees
        self._hint = hint

    def handle(self, worker: Worker, message: Message) -> None:
        source = self._sources.get(message.environment)
        if source is None or source.name not in worker.task.environments:
            return
        if isinstance(message, PushBegun):
            if message.server not in worker.moved_servers:
                self._sync_state.push_begun(source.name, message.server)
        elif isinstance(message, PushEnded):
            self._push_ended(source, worker, message)
        elif source.name in worker.outdated_sources:
            return
        elif isinstance(message, Failure):
            self._failed(source, worker, message.error)
        else:
            self._source_scanned(source, worker, message.revision)

    def _failed(self, source: TrackedSource, worker: Worker, error: EnvsyncError) -> None:
        if worker.task.makes_spare:
            self._spare_trees.failed(source.name, worker, error)
        else:
            source.failed(error)

    def _push_ended(self, source: TrackedSource, worker: Worker, message: PushEnded) -> None:
        if message.report.server in worker.moved_servers:
            return
        if message.source_error is not None and source.name not in worker.outdated_sources:
            source.failed(message.source_error)
        if message.report.wants_spare:
            self._spare_trees.used_up(source.name, message.report.server)
        self._sync_state.push_ended(message)

    def _source_scanned(self, source: TrackedSource, worker: Worker, revision: str) -> None:
        before, task = source.row.revision, worker.task
        if source.scanned(revision, worker.start_number):
            self._sync_state.source_scanned(source.name, revision)
            if revision != before and task.is_scan and not task.is_settled:
                self._hint([source.name])

    def worker_ended(self, worker: Worker) -> None:
        """Account for what a worker left undone when its process ended."""
        if not worker.has_started:
            return  # whoever wants to start it will notice
        for source in filter(None, map(self._sources.get, worker.task.environments)):
            if source.name in worker.outdated_sources:
                if worker.task.is_push:
                    self._sync_state.worker_ended(source.name, worker.awaited_servers, None)
            elif worker.task.makes_spare:
                self._spare_trees.worker_ended(source.name, worker)
            elif worker.task.is_push and worker.is_terminated:
                self._push_terminated(source, worker)
            else:
                self._ended_by_itself(source, worker)

    def _push_terminated(self, source: TrackedSource, worker: Worker) -> None:
        """Have the rest of a terminated push done again, including the scan of its source."""
        self._sync_state.worker_ended(source.name, worker.awaited_servers, None)
        if source.name not in worker.answered:
            source.push_terminated()

    def _ended_by_itself(self, source: TrackedSource, worker: Worker) -> None:
        error = worker.crash_error()
        if worker.task.is_push:
            failure = None if worker.source_failed else error
            self._sync_state.worker_ended(source.name, worker.awaited_servers, failure)
        # A push that did not report on its source is the source's failure only if that had an
        # error before: then nothing else looks at the source again before the next rescan.
        is_in_doubt = worker.task.is_scan or source.row.error is not None
        if source.name not in worker.answered and is_in_doubt:
            source.failed(error)
