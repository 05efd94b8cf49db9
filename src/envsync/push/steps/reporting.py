"""What is told of a push at its end, gathered on the way."""

from __future__ import annotations

from envsync.agent.wire.messages import SourceState, TargetState
from envsync.push.ends.source import Source
from envsync.push.order.method import Method
from envsync.push.order.settings import PushSettings
from envsync.push.preflight import preflight
from envsync.push.preflight.closer_look import CloserLook
from envsync.push.steps.pace import Pace
from envsync.push.steps.report import PushReport
from envsync.push.steps.sending import Sending


class Reporting:
    """Of one push, which notes here what its steps found out."""

    def __init__(
        self,
        settings: PushSettings,
        source: Source,
        server: str,
        closer: CloserLook,
        sending: Sending,
        pace: Pace,
    ) -> None:
        self._settings = settings
        self._source = source
        self._server = server
        self._closer = closer
        self._sending = sending
        self._pace = pace
        self.insisted: tuple[str, ...] = ()
        self.share_warnings: tuple[str, ...] = ()
        self.late_warnings: tuple[str, ...] = ()
        self._asked_warnings: tuple[str, ...] = ()

    def ask_both_ends(self, source: SourceState, target: TargetState) -> None:
        """Have from them what a person should know of what is sent there.

        Before the switch: after it a version stands there, whatever becomes of the links.
        What leads outside comes last: that may be much, and a terminal shows the first few.
        """
        credentials = preflight.credential_warning(self._source.answers.credentials())
        told = (*self._closer.glibc(source, target), *credentials)
        self._asked_warnings = (*told, *self._closer.outside())

    def report(
        self, outcome: str, method: Method, source: SourceState, target: TargetState
    ) -> PushReport:
        """What every outcome has in common; the caller adds the rest. The push is over, and
        nobody is asked anything."""
        self._pace.begin("done")
        return PushReport(
            server=self._server,
            environment=self._settings.name_there,
            outcome=outcome,
            revision=source.revision,
            totals=source.totals,
            method=method.name,
            method_reason=method.reason,
            wire_bytes=self._sending.wire_bytes,
            seconds=self._pace.total_seconds(),
            step_seconds=self._pace.step_seconds(),
            warnings=self._warnings(method.name, source, target),
            recovered=target.recovered,
            share="" if self._settings.share is None else str(self._settings.share),
        )

    def _warnings(self, method: str, source: SourceState, target: TargetState) -> tuple[str, ...]:
        found = preflight.warnings(source, target, method)
        settled = (*found, *self.insisted, *self.share_warnings, *self.late_warnings)
        return (*settled, *self._asked_warnings)
