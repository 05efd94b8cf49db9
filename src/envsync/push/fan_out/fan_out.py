"""The same push to many servers at once; the failure of one does not affect the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from envsync.agent.operations.helper_work import carry_out
from envsync.agent.server.disk_failures import failure_of
from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.wire.figures import HASHED_BYTES
from envsync.errors import EnvsyncError
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.command_locks import CommandLocks
from envsync.push.ends.local_source import open_local
from envsync.push.ends.source import Source
from envsync.push.ends.source_look import path_known_as
from envsync.push.ends.target_end import TargetEnd
from envsync.push.fan_out.targets import Targets
from envsync.push.request.method import PACK
from envsync.push.request.places import HERE, Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.server_pool import Answered, ServerPool
from envsync.push.steps.progress import OnProgress, ProgressTracker
from envsync.push.steps.report import (
    DIRECTLY,
    DIRECTLY_WITH_AGENT,
    FAILED,
    THROUGH_HERE,
    PushReport,
    ServerProgress,
)
from envsync.push.switches.in_doubt import stopped_in_switch
from envsync.transport.names import DIRECT

AwaitStart = Callable[[], bool]
"""Returns when prepared pushes may begin: whether the source has changed since `run` was called."""

SWITCH_SECONDS = 1.5
"""How long an interrupted command waits for servers that were asked to switch. It is over, and
reported, before a second Ctrl-C counts (2 s), and before a worker of the daemon is killed (3 s)."""


class FanOut:
    """Pushes to several servers. `stop` ends all of them; what is staged stays for the next try.

    Only a switch that a server was asked for goes on.
    """

    def __init__(
        self,
        settings: PushSettings,
        source: Place,
        destinations: Sequence[Destination],
        on_progress: OnProgress = lambda _: None,
        on_report: Callable[[PushReport], None] = lambda _: None,
    ) -> None:
        """Open the source, which raises what is wrong with it if that shows by then.

        `on_report` gets every report but those of pushes that `stop` ended.
        """
        self._settings = settings
        self._destinations = destinations
        self._on_progress = on_progress
        self._on_report = on_report
        self._may_begin = threading.Event()
        # Importing and connecting keep this interpreter busy while the source is scanned.
        self._helpers = HelperProcesses.fork(carry_out, caller_shares=False)
        try:
            self._source = _opened(settings, source, self._helpers)
        except BaseException:
            self._helpers.close()
            raise
        look = self._source.look
        look.serves_several = len(destinations) > 1
        look.relocates_to = next(filter(None, map(self._relocated_to, destinations)), "")
        self._route = "" if source.open_link is None else THROUGH_HERE
        self._command_locks = CommandLocks([destination.server for destination in destinations])
        self._targets = Targets(settings, self._command_locks.command)

    def run(self, await_start: AwaitStart | None = None) -> list[PushReport]:
        """Push to all destinations; return the reports in their order. A failure is never raised.

        Until `await_start` returns, the pushes are only prepared: the source is inspected, and
        agents are started on the targets, but they look at nothing and hold no lock. A bug met on
        one server is raised once the others are done. An interruption waits a little for servers
        that were asked to switch; `in_doubt` has those that did not answer.
        """
        inspecting = self._inspecting()
        pool = ServerPool(self._serve, self._destinations)
        try:
            if await_start is None:
                self._may_begin.set()
                pool.begin()
            else:
                pool.begin()
                inspecting = self._begin(is_changed=await_start())
            pool.finish()
            inspecting.join()
        except BaseException:
            # On Ctrl-C, a server that is silent must not delay the end of the process.
            self.stop()
            pool.abandon()
            self._targets.await_switches(SWITCH_SECONDS)
            raise
        self._helpers.close()
        self._source.close()
        return pool.results()

    def stop(self) -> None:
        """End every push. May be called from any thread."""
        self._targets.stop()
        self._source.close()
        self._command_locks.stop()
        self._may_begin.set()

    def in_doubt(self) -> list[PushReport]:
        """Return a report for each server of which it is unknown whether it has switched."""
        return [
            PushReport(server, self._settings.name_there, FAILED, error=stopped_in_switch(server))
            for server in self._targets.switching()
        ]

    @property
    def source_revision(self) -> str:
        """The revision found at the source; empty while it is not known."""
        return self._source.look.known_revision

    def _inspecting(self) -> threading.Thread:
        thread = threading.Thread(target=self._inspect_source)
        thread.start()
        return thread

    def _inspect_source(self) -> None:
        """Inspect the source while the links are opened. Whoever needs its state meets an error."""

        def relay(figure: str, value: int) -> None:
            if figure == HASHED_BYTES:
                self._on_progress(ServerProgress(self._source.look.server, "inspect", value))

        try:
            self._source.look.state(on_progress=relay)
        except (EnvsyncError, OSError):
            return

    def _begin(self, *, is_changed: bool) -> threading.Thread:
        """Let the pushes begin, with another inspection if the first one no longer counts."""
        # Everything is imported and connected, so this interpreter has time to scan as well.
        self._helpers.caller_shares = True
        self._source.look.look_again(is_changed=is_changed)
        inspecting = self._inspecting()
        self._may_begin.set()
        return inspecting

    def _serve(self, destination: Destination, answered: Answered) -> PushReport:
        """Push to one destination, and report on it."""
        server = destination.server
        try:
            report = self._push(destination, answered)
        finally:
            self._command_locks.over(server)
        try:
            if report.outcome != FAILED or not self._targets.is_stopped(server):
                self._on_report(report)  # what `stop` ended is no news to anybody
        finally:
            self._targets.outcome_reported(server)
        return report

    def _push(self, destination: Destination, answered: Answered) -> PushReport:
        progress = ProgressTracker(destination.server, self._on_progress)
        try:
            with self._targets.opened(destination, progress) as target:
                answered()
                self._await_start(progress)
                report = self._run(target, destination, progress)
                if target.link is None:
                    return replace(report, connection=HERE)
                connection, reason = target.link.chosen.name, target.link.chosen.reason
                route = self._route_of(report)
                return replace(report, connection=connection, connection_reason=reason, route=route)
        except (EnvsyncError, OSError) as error:
            self._may_begin.wait()  # until then, nobody has asked for the push
            server, name = destination.server, self._settings.name_there
            failure, seconds = failure_of(error, server), progress.total_seconds()
            return PushReport(server, name, FAILED, seconds=seconds, error=failure)

    def _await_start(self, progress: ProgressTracker) -> None:
        """Wait until pushes may begin; the time until then does not count."""
        if self._may_begin.is_set():
            return
        self._may_begin.wait()
        if self._targets.stopped:
            raise EnvsyncError("the push was stopped before it began")
        progress.restart()

    def _run(
        self, target: TargetEnd, destination: Destination, progress: ProgressTracker
    ) -> PushReport:
        from envsync.push.cycle import Push

        settings = self._settings_for(destination)
        source = self._source.at(self._path_at(destination))
        ends = BothEnds(settings, source, target)
        reopen = partial(self._targets.opened, destination)
        return Push(ends, reopen, progress, self._command_locks).run()

    def _path_at(self, destination: Destination) -> str:
        return path_known_as(destination.prefix, self._settings.name_there)

    def _relocated_to(self, destination: Destination) -> str:
        return self._source.look.relocated_to(self._path_at(destination))

    def _settings_for(self, destination: Destination) -> PushSettings:
        settings = self._settings
        if destination.limit_bits_per_second is not None:
            settings = replace(settings, limit_bits_per_second=destination.limit_bits_per_second)
        return replace(settings, share=destination.share)

    def _route_of(self, report: PushReport) -> str:
        if report.transport != DIRECT:
            return self._route
        return DIRECTLY_WITH_AGENT if report.agent_forwarded else DIRECTLY


def _opened(settings: PushSettings, source: Place, helpers: HelperProcesses) -> Source:
    if source.open_link is not None:
        from envsync.push.ends.remote_source import open_remote

        return open_remote(source, settings.environment, settings.local)
    if settings.method == PACK:
        from envsync.push.packing.packed_source import packed_source

        return packed_source(settings, source, helpers)
    return open_local(source, settings.environment, settings.local, helpers)
