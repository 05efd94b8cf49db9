"""The view of a running push: progress lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from envsync.cli.output.terminal import Terminal
from envsync.cli.pushing import report_text as push_text
from envsync.cli.pushing.request import PushRequest
from envsync.errors import listed
from envsync.push.steps.report import FAILED, PushReport, ServerProgress

if TYPE_CHECKING:
    from typing_extensions import Self

    from envsync.cli.output.progress import LiveProgress

WARNINGS_SHOWN = 5


class PushView:
    """A context manager around the push; no progress or report is printed after its block.

    An interrupted push therefore prints nothing more.
    """

    def __init__(self, terminal: Terminal, request: PushRequest, *, verbose: bool) -> None:
        self._terminal = terminal
        self._request = request
        self._verbose = verbose
        self._live: LiveProgress | None = None
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        if self._terminal.is_interactive:
            from envsync.cli.output.progress import LiveProgress

            names = [destination.server for destination in self._request.destinations]
            self._live = LiveProgress(self._terminal, self._request.source.server, names)
            self._live.start()
        else:
            self._terminal.say(push_text.start_line(self._request))
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
        if self._live is not None:
            self._live.stop()

    def on_progress(self, progress: ServerProgress) -> None:
        if self._live is not None and not self._closed:
            self._live.update(progress)
        environment = self._request.settings.name_there
        if progress.waits_for:
            self._say(push_text.wait_line(environment, progress))
        elif progress.tool and self._live is None:
            self._say(push_text.tool_line(environment, progress))

    def _say(self, line: str) -> None:
        with self._lock:
            if not self._closed:
                self._terminal.say(line)

    def on_report(self, report: PushReport) -> None:
        """Print a report as soon as it is known; may be called from any thread."""
        is_only = len(self._request.destinations) == 1
        with self._lock:
            if self._closed or (report.outcome == FAILED and is_only):
                return  # the error itself is shown at the end
            if self._live is not None:
                self._live.ended(report.server, is_failed=report.outcome == FAILED)
            for line in push_text.report_lines(report, verbose=self._verbose):
                self._terminal.say(line)

    def conclude(self, reports: Sequence[PushReport]) -> None:
        """Print each distinct warning once, with the servers that it is about."""
        warnings: dict[str, list[str]] = {}
        for report in reports:
            for warning in report.warnings:
                warnings.setdefault(warning, []).append(report.server)
        shown = list(warnings.items())
        if not self._verbose and len(shown) > WARNINGS_SHOWN + 1:
            shown = shown[:WARNINGS_SHOWN]  # a note about one more would take as much room
        for warning, servers in shown:
            about = "" if len(servers) == len(reports) > 1 else f"{listed(servers)}: "
            self._terminal.warning(about + warning)
        if len(warnings) > len(shown):
            self._terminal.note(f"and {len(warnings) - len(shown)} more warnings: see them with -v")
