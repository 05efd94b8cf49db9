"""What workers report, a JSON document a line: written by `cli.daemon.work`, checked here where
it comes in.

The members of the documents are named here, and nowhere else: a daemon and the workers that it
starts may be of two versions, after an upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from envsync import errors
from envsync.agent.wire.checked_json import from_json
from envsync.errors import AgentFailed, EnvsyncError

PUSHED = "pushed"
"""The outcome of a push that published something."""


class Failure(NamedTuple):
    """Nothing was done, for the source's sake; or no spare tree was made, on the error's server."""

    environment: str
    error: EnvsyncError


class DigestTaken(NamedTuple):
    """A change digest (`glance`), ahead of a scan; `unchanged` where that is not needed."""

    environment: str
    glance: str
    unchanged: bool


class SourceScanned(NamedTuple):
    """What the source is."""

    environment: str
    revision: str


class PushOutcome(NamedTuple):
    """What became of a push to one server: of a `push.steps.report.PushReport`, what counts here.

    `source_revision` is what was to be pushed, as far as that was found out; `wants_spare` says
    that nothing is left there for the next push to be built on.
    """

    server: str
    outcome: str
    revision: str
    source_revision: str
    seconds: float
    wants_spare: bool


class PushEnded(NamedTuple):
    """The push to one server; `error` is why it failed, where it did."""

    environment: str
    report: PushOutcome
    error: EnvsyncError | None


Message: TypeAlias = "Failure | DigestTaken | SourceScanned | PushEnded"


class _Envelope(NamedTuple):
    environment: str


def to_document(message: Message) -> dict[str, Any]:
    """A message as JSON has it."""
    if isinstance(message, Failure):
        return {"environment": message.environment, "error": message.error.to_json()}
    if isinstance(message, PushEnded):
        error = None if message.error is None else message.error.to_json()
        report = {**message.report._asdict(), "error": error}
        return {"environment": message.environment, "report": report}
    return message._asdict()


def parse(document: Mapping[str, Any]) -> Message | None:
    """The message that a document describes; None where it describes none."""
    try:
        if "glance" in document:
            return from_json(DigestTaken, document)
        if "revision" in document:
            return from_json(SourceScanned, document)
        environment = from_json(_Envelope, document).environment
        if "report" in document:
            return _push_ended(environment, document["report"])
        if "error" in document:
            return Failure(environment, errors.from_json(document["error"]))
    except AgentFailed:
        pass
    return None


def _push_ended(environment: str, report: Any) -> PushEnded:
    outcome = from_json(PushOutcome, report)
    error = report.get("error")
    return PushEnded(environment, outcome, None if error is None else errors.from_json(error))
