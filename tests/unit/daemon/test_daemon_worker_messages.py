"""What workers report arrives as it was, and nothing else is taken for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.wire.checked_json import to_json
from envsync.daemon import worker_messages
from envsync.daemon.tasks import Task
from envsync.daemon.worker_messages import (
    Failure,
    Message,
    PushBegun,
    PushEnded,
    PushOutcome,
    SourceScanned,
    parse,
    to_document,
)
from envsync.errors import (
    ConnectionLost,
    Locked,
    SourceRefused,
    TargetDrifted,
    TransferFailed,
    error_from_json,
)
from envsync.push.preflight.preflight import AFTER_THE_INSTALLER
from envsync.push.steps import report

OUTCOME = PushOutcome("server2", "pushed", "ab" * 32, "ab" * 32, 2.5, True, ("w",), ("a -> b",))
DRIFTED = TargetDrifted("it was changed there", details=["~ lib/x.py"], server="server2")
REPORT = {**to_json(OUTCOME), "error": None}


def shown(message: Message | None) -> Any:
    """Errors are equal to themselves alone."""
    return message if message is None else (type(message), to_document(message))


@pytest.mark.parametrize(
    "message",
    [
        Failure("myenv", DRIFTED),
        SourceScanned("myenv", "ab" * 32),
        PushBegun("myenv", "server2"),
        PushEnded("myenv", OUTCOME, None),
        PushEnded("myenv", OUTCOME._replace(outcome="failed", revision=""), DRIFTED),
    ],
)
def test_each_message_arrives(message: Message) -> None:
    found = parse(json.loads(json.dumps(to_document(message))))
    assert shown(found) == shown(message)


def test_the_members_are_those_that_other_versions_know() -> None:
    """A daemon that was not started again after an upgrade starts workers of the new version."""
    assert to_document(SourceScanned("e", "r")) == {"environment": "e", "revision": "r"}
    assert to_document(Failure("e", DRIFTED)) == {"environment": "e", "error": DRIFTED.to_json()}
    assert to_document(PushBegun("e", "s")) == {"environment": "e", "server": "s"}
    assert to_document(PushEnded("e", OUTCOME, DRIFTED)) == {
        "environment": "e",
        "report": {
            "server": "server2",
            "outcome": "pushed",
            "revision": "ab" * 32,
            "source_revision": "ab" * 32,
            "seconds": 2.5,
            "wants_spare": True,
            "warnings": ["w"],
            "changes": ["a -> b"],
            "error": DRIFTED.to_json(),
        },
    }
    assert worker_messages.PUSHED == report.PUSHED


def test_a_hint_asks_nobody_to_try_again() -> None:
    busy = SourceRefused("pip is at it", hint=AFTER_THE_INSTALLER)
    found = parse(to_document(Failure("myenv", busy)))
    assert isinstance(found, Failure)
    assert found.error.hint == "if it died, install again, and remove what it left"
    for lost in (ConnectionLost("x"), TransferFailed("x"), Locked("x")):
        ended = parse(to_document(PushEnded("myenv", OUTCOME, lost)))
        assert isinstance(ended, PushEnded)
        assert ended.error is not None
        assert (ended.error.hint, lost.hint != "") == ("", True)


def test_a_task_arrives_also_from_an_older_version() -> None:
    task = Task(("e",), ("s",), awaits_start=True)
    assert Task.parse(task.argv(Path("/x.yaml"), "me")[-1]) == task
    assert Task.parse('{"environments": ["e"]}') == Task(("e",))


def test_members_of_a_later_version_are_passed_over() -> None:
    later = {"environment": "e", "report": {**REPORT, "more": 1}, "more": 2}
    assert parse(later) == PushEnded("e", OUTCOME, None)


def test_members_that_an_earlier_version_lacks_are_empty() -> None:
    report = {name: REPORT[name] for name in REPORT if name not in ("warnings", "changes")}
    earlier = parse({"environment": "e", "report": report})
    assert earlier == PushEnded("e", OUTCOME._replace(warnings=(), changes=()), None)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"environment": "e"},
        {"environment": 1, "revision": "r"},
        {"revision": "r"},
        {"environment": "e", "revision": None},
        {"environment": "e", "report": None},
        {"environment": "e", "report": []},
        {"environment": "e", "report": {**REPORT, "server": None}},
        {"environment": "e", "report": {**REPORT, "seconds": "2"}},
        {"environment": "e", "report": {"server": "server2", "error": None}},
        {"error": DRIFTED.to_json()},
    ],
)
def test_document_that_is_no_message_is_none(document: dict[str, Any]) -> None:
    assert parse(document) is None


def test_an_error_that_is_none_is_a_failure_all_the_same() -> None:
    found = parse({"environment": "e", "report": {**REPORT, "error": "broken"}})
    assert isinstance(found, PushEnded)
    assert found.error is not None
    assert found.error.code == "unexpected"


@pytest.mark.parametrize(
    ("code", "where", "is_so"),
    [
        ("source-refused", "server2", True),
        ("not-found", "server1", True),
        ("not-found", "server2", False),
        ("source-shrunk", "server2", False),
        ("drift", "server2", False),
    ],
)
def test_error_of_the_source_is_told_from_one_of_a_server(
    code: str, where: str, is_so: bool
) -> None:
    error = error_from_json({"code": code, "server": where})
    assert PushEnded("myenv", OUTCOME, error).source_error is (error if is_so else None)
