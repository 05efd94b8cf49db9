"""What a command had done when something ended it is in its document all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.wire.server_operations import GcFacts
from envsync.errors import ConnectionFailed, ConnectionLost
from envsync.push.queries.examination import Examination
from envsync.push.queries.servers import Outcome
from envsync.push.request.places import Place
from envsync.push.steps.report import FAILED, PUSHED, PushReport
from envsync.tree.manifest import Totals
from tests.support.command_line import Envsync
from tests.support.documented_json import check_document

INVENTORY = """\
prefix: {prefix}
servers: {{server1: {{}}, server2: {{}}, server3: {{}}, server4: {{}}}}
environments:
  first: {{source: server1, push_to: [server2]}}
  second: {{source: server1, push_to: [server2]}}
"""
ENDS = pytest.mark.parametrize(
    ("end", "status"), [(KeyboardInterrupt(), 130), (RuntimeError("a bug"), 1)]
)


@pytest.fixture
def ended(envsync: Envsync, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The document of a command on server1."""
    config = tmp_path / "config.yaml"
    config.write_text(INVENTORY.format(prefix=tmp_path / "conda"))
    for name in ("first", "second"):
        (tmp_path / "conda/envs" / name / "conda-meta").mkdir(parents=True)
        (tmp_path / "conda/envs" / name / "conda-meta/history").touch()

    def call(*arguments: str, status: int) -> dict[str, Any]:
        variables = {"ENVSYNC_SELF": "server1", "ENVSYNC_CONFIG": str(config)}
        found = envsync(*arguments, "--json", **variables)
        assert (found.status, found.err) == (status, "")
        return check_document(found.out)

    return call


class Pushes:
    """A fan-out whose servers say what became of them one after the other, until one `end`s it."""

    said: Sequence[PushReport] = ()
    end: BaseException = KeyboardInterrupt()

    def __init__(self, settings: Any, *given: Any) -> None:
        self._environment, self._on_report = settings.name_there, given[-1]

    def run(self) -> list[PushReport]:
        reports = [one for one in self.said if one.environment == self._environment]
        for report in reports:
            self._on_report(report)
        if not reports or len(reports) > 1:
            raise self.end
        return reports

    def in_doubt(self) -> list[PushReport]:
        lost = ConnectionLost("stopped during the switch", hint="look", server="server3")
        return [PushReport("server3", self._environment, FAILED, error=lost)]


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> type[Pushes]:
    monkeypatch.setattr("envsync.push.fan_out.fan_out.FanOut", Pushes)
    monkeypatch.setattr(Pushes, "said", ())
    return Pushes


@ENDS
def test_document_of_an_interrupted_push_has_its_reports_in_order(
    end: BaseException,
    status: int,
    ended: Callable[..., dict[str, Any]],
    pushes: type[Pushes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the order of the command line, whoever came first."""
    refused = ConnectionFailed("it refuses connections", server="server4")
    monkeypatch.setattr(pushes, "end", end)
    pushes.said = (
        PushReport("server4", "first", FAILED, error=refused),
        PushReport("server2", "first", PUSHED),
    )
    result = ended("push", "first", "server2", "server3", "server4", status=status)["result"]
    in_doubt = [("server3", "failed")] if status == 130 else []
    assert [(told["server"], told["outcome"]) for told in result["servers"]] == [
        ("server2", "pushed"),
        *in_doubt,
        ("server4", "failed"),
    ]


@pytest.mark.usefixtures("ended")
def test_an_interrupted_push_says_why_servers_had_failed(
    envsync: Envsync, pushes: type[Pushes], tmp_path: Path
) -> None:
    refused = ConnectionFailed("it refuses connections", hint="start it", server="server4")
    pushes.said = (
        PushReport("server4", "first", FAILED, error=refused),
        PushReport("server2", "first", PUSHED, totals=Totals(1, 1, 1)),
    )
    variables = {"ENVSYNC_SELF": "server1", "ENVSYNC_CONFIG": str(tmp_path / "config.yaml")}
    found = envsync("push", "first", "server2", "server3", "server4", **variables)
    assert found.status == 130
    assert found.err.splitlines() == [
        "envsync: server4: it refuses connections",
        "  → start it",
        "envsync: server3: stopped during the switch",
        "  → look",
        "envsync: stopped: 1 of 3 done, 2 failed; run the same command again to resume",
    ]


@ENDS
def test_document_of_an_interrupted_bootstrap_has_what_it_brought(
    end: BaseException,
    status: int,
    ended: Callable[..., dict[str, Any]],
    pushes: type[Pushes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With conda there and the first environment, when the second one is under way."""
    monkeypatch.setattr(pushes, "end", end)
    pushes.said = (PushReport("server2", "base", PUSHED), PushReport("server2", "first", PUSHED))
    result = ended("bootstrap", "server2", status=status)["result"]
    assert result["base"]["outcome"] == "pushed"
    assert result["then"] == ["first", "second"]
    assert [told["environment"] for told in result["environments"]] == ["first"]


@ENDS
@pytest.mark.parametrize(
    "command", [["gc"], ["list"], ["remove", "first"], ["verify", "first"], ["history", "first"]]
)
def test_document_of_an_interrupted_command_has_the_servers_that_answered(
    command: list[str],
    end: BaseException,
    status: int,
    ended: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def for_each_server(
        _: Sequence[Place], __: object, on_outcome: Callable[[Outcome[Any]], None]
    ) -> None:
        on_outcome(Outcome("server4", error=ConnectionFailed("no", server="server4")))
        if command == ["gc"]:
            on_outcome(Outcome("server2", value=GcFacts((), 0, 0)))
        raise end

    monkeypatch.setattr("envsync.cli.invocation.asking.for_each_server", for_each_server)
    result = ended(*command, "server2", "server3", "server4", status=status)["result"]
    told = [one["server"] for one in result["servers"]]
    assert told == (["server2", "server4"] if command == ["gc"] else ["server4"])


@ENDS
def test_document_of_an_interrupted_doctor_has_its_complaints(
    end: BaseException,
    status: int,
    ended: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of whom it has looked at, it says what is wrong."""

    def for_each_place(places: Sequence[Place], visit: Callable[..., Any], _: object) -> None:
        visit(places[-1], lambda: None)
        raise end

    refused = ConnectionFailed("it refuses connections", server="server4")
    found = Examination("server4", "/conda", is_reached=False, error=refused)
    monkeypatch.setattr("envsync.push.queries.servers.for_each_place", for_each_place)
    monkeypatch.setattr("envsync.push.queries.examination.examine", lambda *_: found)
    [told] = ended("doctor", "server3", "server4", status=status)["result"]["servers"]
    assert told["server"] == "server4"
    assert told["complaints"]
