"""Progress lines, one per server; the only module that needs rich's live display."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from envsync.cli.output.terminal import Terminal
from envsync.cli.output.wording import count, rounded, tally, tool_run
from envsync.push.server_pool import SERVERS_AT_ONCE
from envsync.push.steps.report import ServerProgress
from envsync.texts.redaction import escaped
from envsync.texts.sizes import size

_SOURCE_IS_DONE = ("preflight", "plan", "stage", "transfer", "verify", "publish", "waiting", "done")

_CTRL_C_ROOM = len("^C" * 3)
_SPINNER_WIDTH = 1
_STEP_WIDTH = len("preflight")

_REFRESH_SECONDS = 0.1

_RATE_SECONDS = 30.0
"""The rate of the last half minute is used to predict the remaining time."""
_RATE_SECONDS_MIN = 1.0
_FILLING_SECONDS = 1.0
"""What is reported first only fills buffers on the way, so measuring starts after this time."""


class Rate:
    """The current transfer rate; it drops while nothing arrives."""

    def __init__(self, done_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._samples = deque([(self._began, done_bytes)])

    def add(self, done_bytes: int) -> None:
        now = self._clock()
        if now - self._began < _FILLING_SECONDS:
            self._samples = deque([(now, done_bytes)])
            return
        if len(self._samples) > 2 and now - self._samples[-2][0] < _RATE_SECONDS_MIN:
            self._samples.pop()
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
            self._samples.popleft()

    def bytes_per_second(self) -> float | None:
        """Return the rate; None until it has been measured for a second."""
        (began, before), (_, now_bytes) = self._samples[0], self._samples[-1]
        seconds = self._clock() - began
        return (now_bytes - before) / seconds if seconds >= _RATE_SECONDS_MIN else None


class LiveConsole(Console):
    """Leaves room for the `^C` that a terminal writes at its cursor.

    Behind a line as wide as the screen, the `^C` would start another line, and the clean-up at the
    end would remove one line too few.

    Whoever draws on it holds its `drawing` lock. Rich computes the way up over what was drawn
    before it writes, and its own locks do not cover both: two threads that print at once would
    leave lines behind, or overwrite others.
    """

    def __init__(self, file: TextIO, *, is_styled: bool) -> None:
        super().__init__(
            file=file,
            color_system="auto" if is_styled else None,  # rich's `no_color` leaves dim letters
            highlight=False,
            emoji=False,
        )
        self.drawing = threading.RLock()

    def print_above(self, line: str) -> None:
        """Print a line above what moves; may be called from any thread."""
        with self.drawing:
            self.print(line, markup=False, soft_wrap=True)

    @property
    def options(self) -> ConsoleOptions:
        options = super().options
        return options.update_width(max(1, options.max_width - _CTRL_C_ROOM))


class _Lines(Progress):
    """The lines of the servers that are worked on, below `total`, unless that is empty."""

    total = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.total:
            yield Text(self.total)
        yield from super().get_renderables()


class LiveProgress:
    """The progress lines; its methods may be called from several threads.

    Of more servers than are served at a time, a line above them tells how many have `ended`.
    """

    def __init__(self, terminal: Terminal, source_server: str, servers: Sequence[str]) -> None:
        self._source_server = source_server
        console = terminal.live_console()
        name_width = max((len(name) for name in (source_server, *servers)), default=0)
        besides = sum(width + 1 for width in (_SPINNER_WIDTH, name_width, _STEP_WIDTH, 0))
        self._progress = _Lines(
            SpinnerColumn("line" if console.options.ascii_only else "dots", finished_text=" "),
            _Text("server", name_width),
            _Text("step", _STEP_WIDTH),
            _Bar(bar_width=24),
            _Figures(lambda: console.options.max_width - besides),
            console=console,
            auto_refresh=False,  # rich's thread would draw without the lock
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._of = len(servers)
        self._done = self._failed = 0
        self._tasks: dict[str, TaskID] = {}
        self._steps: dict[str, tuple[str, str]] = {}
        self._rates: dict[str, Rate] = {}
        self._lock = console.drawing
        self._stopped = threading.Event()

    def start(self) -> None:
        self._stopped = threading.Event()
        with self._lock:
            self._progress.start()
        threading.Thread(target=self._turn, args=(self._stopped,), daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        with self._lock:
            # At its end, rich draws all lines: what is higher than the screen would stay there.
            for server in list(self._tasks):
                self.remove(server)
            self._progress.total = ""
            self._progress.stop()

    def _turn(self, stopped: threading.Event) -> None:
        while not stopped.wait(_REFRESH_SECONDS):
            with self._lock:
                if not stopped.is_set():
                    self._progress.refresh()

    def ended(self, server: str, *, is_failed: bool) -> None:
        """Remove a server's line, and count how its push ended."""
        with self._lock:
            self._failed += is_failed
            self._done += not is_failed
            if self._of > SERVERS_AT_ONCE:
                self._progress.total = tally(self._done, self._of, self._failed)
            self.remove(server)

    def remove(self, server: str) -> None:
        with self._lock:
            self._steps.pop(server, None)
            task = self._tasks.pop(server, None)
            if task is not None:
                self._progress.remove_task(task)

    def update(self, progress: ServerProgress) -> None:
        with self._lock:
            if progress.server != self._source_server and progress.step in _SOURCE_IS_DONE:
                self.remove(self._source_server)
            task = self._task(progress)
            step = progress.step, tool_run(progress.tool, progress.attempt)
            if self._steps.get(progress.server) != step:
                self._steps[progress.server] = step
                rate = self._rates[progress.server] = Rate(progress.done_bytes)
                self._progress.reset(
                    task, server=progress.server, step=step[0], tool=step[1], files=0, rate=rate
                )
            self._rates[progress.server].add(progress.done_bytes)
            total = progress.total_bytes or None
            self._progress.update(
                task, total=total, completed=progress.done_bytes, files=progress.files
            )

    def _task(self, progress: ServerProgress) -> TaskID:
        if progress.server not in self._tasks:
            self._tasks[progress.server] = self._progress.add_task(
                "",
                total=None,
                server=progress.server,
                step=progress.step,
                tool="",
                files=0,
                rate=Rate(0),
            )
        return self._tasks[progress.server]


class _Text(ProgressColumn):
    def __init__(self, field: str, width: int) -> None:
        super().__init__(Column(min_width=width, no_wrap=True))
        self._field = field

    def render(self, task: Task) -> Text:
        return Text(escaped(str(task.fields[self._field])))


class _Bar(BarColumn):
    """An empty bar while the total is unknown: a pulsing one looks full without colours."""

    def render(self, task: Task) -> ProgressBar:
        if task.total is None:
            return ProgressBar(total=1, completed=0, width=self.bar_width)
        return super().render(task)


class _Figures(ProgressColumn):
    """Shows `1.2 MB of 3.1 MB, 41.0 MB/s, 2 s left`, as far as known and as space allows.

    While a tool runs on the server, it is `conda 26.7.1, try 2, 41 s`.

    A figure that does not fit is left out, because if it were cut it would be another figure.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        super().__init__(Column(no_wrap=True))
        self._room = room

    def render(self, task: Task) -> Text:
        files = count(task.fields["files"], "file") if task.fields["files"] else ""
        done = rate = left = ""
        if task.completed:
            done = size(task.completed) + (f" of {size(task.total)}" if task.total else "")
        per_second = task.fields["rate"].bytes_per_second()
        if per_second:
            rate = f"{size(per_second)}/s"
            if task.total:
                left = f"{rounded((task.total - task.completed) / per_second)} left"
        room = self._room()
        choices: list[tuple[str, ...]]
        choices = [(files, done, rate, left), (files, done, left), (done, left), (left,)]
        if task.fields["tool"]:
            elapsed = rounded(task.elapsed or 0.0)
            choices = [(escaped(task.fields["tool"]), elapsed), (elapsed,)]
        for parts in choices:
            shown = ", ".join(part for part in parts if part)
            if len(shown) <= room:
                return Text(shown, style="dim")
        return Text(done if len(done) <= room else "", style="dim")
