"""A scheduler whose worker processes are pretended, and whose clock is moved by hand."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import pytest

from envsync.daemon import tracked_source
from envsync.daemon.assignments import Assignment, Assignments
from envsync.daemon.installer_runs import InstallerRun
from envsync.daemon.log import Log
from envsync.daemon.rows import ServerRow, SourceRow
from envsync.daemon.scheduler import Scheduler
from envsync.daemon.store import Store
from envsync.daemon.tasks import Task
from envsync.daemon.triggers import Observation
from envsync.daemon.worker_messages import (
    Failure,
    Message,
    PushEnded,
    PushOutcome,
    SourceScanned,
    to_document,
)
from envsync.daemon.worker_process import WorkerProcess
from envsync.errors import ConnectionFailed, EnvsyncError, SourceRefused

SETTLE, RESCAN = 10.0, 3600.0
BUSY = SourceRefused("not at rest: pip is at it")
DOWN = ConnectionFailed("it does not answer")


class FakeProcess:
    """Says what a test has it say."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.fd = os.open(os.devnull, os.O_RDONLY)
        self.stderr_tail, self.exit_status = "", 0
        self.is_over = self.is_told_to_end = self.is_killed = False
        self.pid = 4242
        self.sent: list[bytes] = []
        self._documents: list[dict[str, Any]] = []

    @property
    def has_begun(self) -> bool:
        return not self.task.awaits_start or bool(self.sent)

    def send(self, line: bytes) -> None:
        self.sent.append(line)

    def terminate(self) -> None:
        """It would end soon."""
        self.is_told_to_end = True

    def kill(self) -> None:
        """It would end at once."""
        self.is_killed, self.exit_status = True, -9

    def report(self, message: Message) -> None:
        self.report_document(json.loads(json.dumps(to_document(message))))

    def report_document(self, document: dict[str, Any]) -> None:
        self._documents.append(document)

    def report_failure(self, error: EnvsyncError) -> None:
        self.report(Failure(self.task.environments[0], error))

    def report_revision(self, revision: str) -> None:
        self.report(SourceScanned(self.task.environments[0], revision))

    def report_push(
        self,
        server: str,
        error: EnvsyncError | None = None,
        *,
        revision: str = "",
        wants_spare: bool = False,
        warnings: tuple[str, ...] = (),
        changes: tuple[str, ...] = (),
    ) -> None:
        """Where that fails, `revision` is the source's."""
        stands, outcome = ("", "failed") if error else (revision, "pushed")
        found = PushOutcome(server, outcome, stands, revision, 0.1, wants_spare, warnings, changes)
        self.report(PushEnded(self.task.environments[0], found, error))

    def read(self) -> list[dict[str, Any]]:
        documents, self._documents = self._documents, []
        return documents


class FakeInstallCheck:
    is_polled = False

    def __init__(self, path: str) -> None:
        self.seen = Observation()
        self.old: tuple[str, ...] = ()
        self.known: SourceRow | None = None
        """What a scheduler said that was known before."""
        self.notes = 0
        """How often an installer was looked for at a hint."""
        self.runs: tuple[InstallerRun, ...] = ()
        self.accepted_seconds = 0.0
        self.local: Sequence[str] = ()
        self.look_seconds = math.inf

    def made(self, earlier: SourceRow | None) -> FakeInstallCheck:
        """As if it was made anew."""
        self.known = earlier
        return self

    def set_local(self, patterns: Sequence[str]) -> None:
        self.local = patterns

    def note_installer(self) -> None:
        self.notes += 1

    def look_if_due(self) -> bool:
        return False

    def accept(self) -> None:
        self.accepted_seconds += 1

    def observe(self) -> Observation:
        return self.seen

    def old_leftovers(self) -> tuple[str, ...]:
        return self.old


FIRST_SCANS = [Task(("one",)), Task(("two",))]
"""What a daemon does first: each environment is scanned by a worker of its own."""


def _plain(task: Task) -> Task:
    """Return the task without how it is carried out."""
    return task._replace(awaits_start=False)


class SimulatedDaemon:
    """`one` and `two`, each on `a` and `b`; `world` is what a push would find at a source."""

    def __init__(self, directory: Path, *, checks: dict[str, FakeInstallCheck]) -> None:
        self.now = self.next_turn_seconds = 1000.0
        self.wall_ahead = 0.0
        self.tick_seconds = 0.0
        """By how much time passes with each look at the clock."""
        self.jitter: Callable[[], float] = lambda: 0.0
        self.no_process = False
        self.lines: list[str] = []
        self.workers: list[FakeProcess] = []
        self.down: set[str] = set()
        self.spares: list[Task] = []
        """Tasks to make a spare tree that were carried out."""
        self.wanting_spares: set[str] = set()
        self.no_spare: dict[str, EnvsyncError] = {}
        """Why none is made on a server."""
        self.refused: dict[str, EnvsyncError] = {}
        self.warnings: tuple[str, ...] = ()
        self.changes: tuple[str, ...] = ()
        self.world = {"one": "r1", "two": "r1"}
        self.checks = checks
        self.store = Store(directory / "daemon.sqlite")
        assert self.store._connection is not None
        self.store._connection.execute("PRAGMA synchronous = OFF")  # the disk is not tested here
        log = Log(self.lines.append, {})
        self.scheduler = Scheduler(
            self.store, log, self._start, self._clock, self._wall, self._jitter
        )
        self.scheduler.adopt(self.assignments())

    @staticmethod
    def assignments(**servers: tuple[str, ...]) -> Assignments:
        wanted = servers or {"one": ("a", "b"), "two": ("a", "b")}
        assignments = {
            name: Assignment(
                name, f"/p/envs/{name}", {server: f"{server} /p" for server in to}, SETTLE
            )
            for name, to in wanted.items()
        }
        return Assignments("me", RESCAN, assignments)

    def edit(self, **changes: Any) -> None:
        """The inventory says something else of `one`."""
        found = self.assignments()
        found.by_name["one"] = replace(found.by_name["one"], **changes)
        self.scheduler.adopt(found)

    def _clock(self) -> float:
        self.now += self.tick_seconds
        return self.now

    def _wall(self) -> float:
        return self.now + self.wall_ahead

    def _jitter(self) -> float:
        return self.jitter()

    def _start(self, task: Task) -> WorkerProcess:
        if self.no_process:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        worker = FakeProcess(task)
        self.workers.append(worker)
        return cast("WorkerProcess", worker)

    def turn(self) -> list[Task]:
        """One turn; what began in it."""
        before = [worker for worker in self.workers if worker.has_begun]
        self.next_turn_seconds = self.scheduler.turn()
        began = [worker for worker in self.workers if worker.has_begun and worker not in before]
        return [_plain(worker.task) for worker in began if not worker.task.makes_spare]

    def change_one(self, revision: str) -> None:
        """`one` becomes that, and the daemon has a hint of it."""
        self.world["one"] = revision
        self.scheduler.hint(["one"])

    def push_begun(self) -> FakeProcess:
        """A push of `one` to both servers, after a hint."""
        self.scheduler.hint(["one"])
        self.now += SETTLE
        assert self.turn() == [Task(("one",), ("a", "b"))]
        return self.at_work()[-1]

    def work(self) -> list[Task]:
        """Turns, each worker doing what it is to do, until there is nothing left for now."""
        done: list[Task] = []
        while True:
            self.next_turn_seconds = self.scheduler.turn()
            is_ended = self._end_those_told_to()
            at_work = self.at_work()
            if not (at_work or is_ended):
                return done
            for worker in at_work:
                (self.spares if worker.task.makes_spare else done).append(_plain(worker.task))
                self.finish(worker)

    def at_work(self) -> list[FakeProcess]:
        """Those that have begun and not ended, in the order in which they were started."""
        return [worker for worker in self.workers if worker.has_begun and not worker.is_over]

    def _end_those_told_to(self) -> bool:
        told = [worker for worker in self.workers if worker.is_told_to_end and not worker.is_over]
        for worker in told:
            self.end(worker)
        return bool(told)

    def finish(self, worker: FakeProcess) -> None:
        if worker.task.makes_spare:
            for server in worker.task.servers:
                if server in self.no_spare:
                    error = copy(self.no_spare[server])
                    error.server = server
                    worker.report_failure(error)
        for name in () if worker.task.makes_spare else worker.task.environments:
            worker.report(SourceScanned(name, self.world[name]))
            for server in worker.task.servers:
                self.report_push(worker, server)
        self.end(worker)

    def end(self, worker: FakeProcess) -> None:
        worker.is_over = True
        os.close(worker.fd)
        self.scheduler.read_worker(worker.fd)

    def report_push(self, worker: FakeProcess, server: str) -> None:
        """What a push to it would come to."""
        worker.report_push(
            server,
            DOWN if server in self.down else self.refused.get(server),
            revision=self.world[worker.task.environments[0]],
            wants_spare=server in self.wanting_spares,
            warnings=self.warnings,
            changes=self.changes,
        )

    def later(self, seconds: float) -> list[Task]:
        """As the loop does it, for so long."""
        end, done = self.now + seconds, list[Task]()
        while self.now < end:
            done += self.work()
            self.now = min(end, self.next_turn_seconds)
        return done + self.work()

    def row(self, name: str, server: str) -> ServerRow:
        return self.store.state.servers[name, server]

    def states(self) -> list[str]:
        return [self.row(n, s).state for n in ("one", "two") for s in ("a", "b")]


class StartDaemon(Protocol):
    def __call__(self, *unfinished: str) -> SimulatedDaemon:
        """`unfinished` is what a check of `one` finds half done."""


def simulated_daemon(
    directory: Path, monkeypatch: pytest.MonkeyPatch, unfinished: tuple[str, ...]
) -> SimulatedDaemon:
    """Where a check of `one` finds that half done."""
    pretended = {f"/p/envs/{name}": FakeInstallCheck(name) for name in ("one", "two", "three")}
    pretended["/p/envs/one"].seen = Observation(unfinished=unfinished)
    monkeypatch.setattr(
        tracked_source,
        "InstallCheck",
        lambda path, _, earlier: pretended[path].made(earlier),
    )
    return SimulatedDaemon(directory, checks=pretended)


def check_of(daemon: SimulatedDaemon, name: str) -> FakeInstallCheck:
    return daemon.checks[f"/p/envs/{name}"]
