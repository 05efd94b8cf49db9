"""A worker: a process that carries out a task, and what it has reported so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from envsync.daemon.tasks import Task
from envsync.daemon.worker_messages import Failure, Message, PushBegun, PushEnded
from envsync.daemon.worker_process import WorkerProcess
from envsync.errors import EnvsyncError


@dataclass(slots=True)
class Worker:
    """A worker process with its task, and what it has reported."""

    task: Task
    process: WorkerProcess
    heard_seconds: float
    """When it was started, or last reported something."""
    start_number: int = 0
    """The number of its task in the order of their start; 0 before that."""
    is_source_changed: bool = False
    """Whether the source has changed since a worker that is not started yet looked at it."""
    moved_servers: set[str] = field(default_factory=set)
    """Servers whose names lead elsewhere now, so that its reports are not about them."""
    outdated_sources: set[str] = field(default_factory=set)
    """Environments that are at another path now, or were dropped from the inventory meanwhile, so
    that what it reports of them as sources is not about those that are followed now."""
    terminated_seconds: float | None = None
    """When it was told to end before its task was done."""
    is_killed: bool = False
    """Whether it was killed because it did not end, or reported nothing for too long."""
    answered: set[str] = field(default_factory=set)
    """The environments whose result it has reported."""
    reported_servers: set[str] = field(default_factory=set)
    """The servers of its task on which it has reported."""
    source_failed: bool = False
    """Whether it has reported that a source failed, so that its servers are not to blame."""

    @property
    def awaited_servers(self) -> tuple[str, ...]:
        """The servers of its task on which it has not reported yet.

        Those that it has reported can be in another worker's task by now.
        """
        done = self.reported_servers | self.moved_servers
        return tuple(server for server in self.task.servers if server not in done)

    @property
    def is_terminated(self) -> bool:
        return self.terminated_seconds is not None

    @property
    def has_started(self) -> bool:
        return self.start_number > 0

    @property
    def is_ready(self) -> bool:
        """Whether it is running and waits to be started."""
        return not self.has_started and not self.process.is_over

    def note(self, message: Message) -> None:
        """Note that it has sent this message."""
        if isinstance(message, PushBegun):
            return
        self.answered.add(message.environment)
        if isinstance(message, Failure):
            self.source_failed = True
        elif isinstance(message, PushEnded):
            self.reported_servers.add(message.report.server)
            self.source_failed |= message.source_error is not None

    def crash_error(self) -> EnvsyncError:
        """Return the error for a worker that ended without a report."""
        status, stderr = self.process.exit_status, self.process.stderr_tail
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        what = f"the process that {self.task.verb} ended unexpectedly ({how})"
        return EnvsyncError(f"{what}: {last}" if last else what, details=stderr.splitlines())
