"""The messages of workers, one JSON document on each line.

`cli.daemon.work` writes them, and the daemon validates them here. The names of their members are
defined only here: after an upgrade, a daemon and its workers can be of different versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from envsync.agent.wire.checked_json import from_json, to_json
from envsync.errors import AgentFailed, EnvsyncError, NotFound, SourceRefused, error_from_json

PUSHED = "pushed"
"""The `PushOutcome.outcome` of a push that published something."""


class Failure(NamedTuple):
    """The source failed, so nothing was done; or no spare tree was made on the error's server."""

    environment: str
    error: EnvsyncError


class SourceScanned(NamedTuple):
    """The revision of the source, found by a scan or a push."""

    environment: str
    revision: str


class PushBegun(NamedTuple):
    """The push to one server of the task has begun; until then, it was only queued."""

    environment: str
    server: str


class PushOutcome(NamedTuple):
    """The result of a push to one server: the part of `push.steps.report.PushReport` needed here.

    `source_revision` is the revision to push, empty if it was not found out. `wants_spare` is
    true if the server has no tree left on which to build the next push. `warnings` and `changes`
    (of a rebuild) are the first of the report's.
    """

    server: str
    outcome: str
    revision: str
    source_revision: str
    seconds: float
    wants_spare: bool
    warnings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


class PushEnded(NamedTuple):
    """The end of a push to one server; `error` is None unless it failed."""

    environment: str
    report: PushOutcome
    error: EnvsyncError | None

    @property
    def source_error(self) -> EnvsyncError | None:
        """The error, if the source was not at rest or does not exist; None otherwise.

        Such an error says nothing about the server.
        """
        error = self.error
        if error is None or error.code == SourceRefused.code:
            return error
        is_gone = error.code == NotFound.code and error.server != self.report.server
        return error if is_gone else None


Message: TypeAlias = "Failure | SourceScanned | PushBegun | PushEnded"


class _Envelope(NamedTuple):
    environment: str


def to_document(message: Message) -> dict[str, Any]:
    """Return a message as a JSON-ready document.

    The hint of an error asks nobody to try again: the daemon does that.
    """
    if isinstance(message, Failure):
        error = message.error.to_json(by_hand=False)
        return {"environment": message.environment, "error": error}
    if isinstance(message, PushEnded):
        failure = message.error and message.error.to_json(by_hand=False)
        report = {**to_json(message.report), "error": failure}
        return {"environment": message.environment, "report": report}
    return message._asdict()


def parse(document: Mapping[str, Any]) -> Message | None:
    """Return the message in a document; None if it is not a valid one."""
    try:
        if "revision" in document:
            return from_json(SourceScanned, document)
        environment = from_json(_Envelope, document).environment
        if "server" in document:
            return from_json(PushBegun, document)
        if "report" in document:
            return _push_ended(environment, document["report"])
        if "error" in document:
            return Failure(environment, error_from_json(document["error"]))
    except AgentFailed:
        pass
    return None


def _push_ended(environment: str, report: Any) -> PushEnded:
    outcome = from_json(PushOutcome, report)
    error = report.get("error")
    return PushEnded(environment, outcome, None if error is None else error_from_json(error))
