"""A push's progress: its steps, their seconds, and what is reported meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from envsync.agent.wire.figures import SIZES
from envsync.agent.wire.messages import ProcessUse
from envsync.push.steps.report import WAITING, ServerProgress

OnProgress = Callable[[ServerProgress], None]


class ProgressTracker:
    """The steps of one push, which begins with connecting."""

    def __init__(self, server: str, on_progress: OnProgress = lambda _: None) -> None:
        self._server = server
        self._on_progress = on_progress
        self._started = self._step_started = time.monotonic()
        self._step = "connect"
        self._seconds: dict[str, float] = {}
        self._done_bytes = 0
        self._total_bytes = 0
        self._files = 0
        self.wire_bytes: int | None = None
        """The bytes on the wire so far; None if none were counted."""

    def restart(self) -> None:
        """Count the push's time from now: it was only prepared until now."""
        self._started = self._step_started = time.monotonic()

    def begin(self, step: str, total_bytes: int = 0) -> None:
        """Begin the next step; `total_bytes` is what it will process in all, if known."""
        now = time.monotonic()
        self._seconds[self._step] = self._seconds.get(self._step, 0.0) + now - self._step_started
        self._step, self._step_started = step, now
        self._done_bytes, self._total_bytes, self._files = 0, total_bytes, 0
        self._on_progress(ServerProgress(self._server, step, 0, total_bytes))

    @contextlib.contextmanager
    def waiting(self, processes: tuple[ProcessUse, ...], seconds_max: float) -> Iterator[None]:
        """Interrupt the present step, until the block ends, to wait for these processes."""
        interrupted = self._step
        self.begin(WAITING)
        self._on_progress(
            ServerProgress(self._server, WAITING, waits_for=processes, wait_seconds=seconds_max)
        )
        yield
        self.begin(interrupted)

    def runs(self, tool: str, attempt: int) -> None:
        """Tell that the server's own tool begins to run, in its `attempt`-th try."""
        self._on_progress(
            ServerProgress(
                self._server,
                self._step,
                tool=tool,
                attempt=attempt,
                step_seconds=time.monotonic() - self._step_started,
            )
        )

    def sent(self, size_bytes: int) -> None:
        """Count bytes of content that were sent since the last call."""
        self._done_bytes += size_bytes
        self._report()

    def sent_files(self, files: int) -> None:
        """Count files that were finished since the last call."""
        self._files += files
        self._report()

    def sent_on_wire(self, size_bytes: int | None) -> None:
        """Count bytes on the wire, if they are known; nobody is told of them before the report."""
        if size_bytes is not None:
            self.wire_bytes = (self.wire_bytes or 0) + size_bytes

    def _report(self) -> None:
        counts = self._done_bytes, self._total_bytes, self._files
        self._on_progress(ServerProgress(self._server, self._step, *counts))

    def relay(self, figure: str, value: int) -> None:
        """Pass on what the agent reports while it works."""
        if figure in SIZES:
            self._on_progress(ServerProgress(self._server, self._step, value))

    def total_seconds(self) -> float:
        return time.monotonic() - self._started

    def step_seconds(self) -> dict[str, float]:
        return {step: round(seconds, 3) for step, seconds in self._seconds.items()}
