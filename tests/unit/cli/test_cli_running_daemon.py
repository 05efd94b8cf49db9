"""What commands by hand tell the daemon that runs here."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from envsync.cli.invocation import running_daemon
from envsync.cli.invocation.in_order import OnKnown
from envsync.cli.pushing import following
from envsync.daemon import control
from envsync.daemon.control import Answer, ControlSocket, Request
from envsync.daemon.paths import DaemonPaths
from envsync.errors import ConnectionFailed
from envsync.push.steps.report import FAILED, PUSHED, PushReport
from tests.support.command_line import Envsync

_INVENTORY = """\
prefix: {prefix}
servers:
  {here}: {{}}
  gpu[1-2]: {{groups: [gpu]}}
  gpu3:
environments:
  myenv: {{source: {here}, push_to: ["@gpu"], watch: true}}
"""


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of commands for which every push succeeds."""

    def push_and_show(_: object, request: Any, *__: object) -> list[PushReport]:
        name = request.settings.name_there
        return [PushReport(to.server, name, PUSHED) for to in request.destinations]

    monkeypatch.setattr(following, "push_and_show", push_and_show)
    here = socket.gethostname()
    (tmp_path / "conda/envs/myenv/conda-meta").mkdir(parents=True)
    (tmp_path / "conda/envs/myenv/conda-meta/history").touch()
    (tmp_path / "file.tar.gz").touch()
    (tmp_path / "lab.yaml").write_text(_INVENTORY.format(prefix=tmp_path / "conda", here=here))
    return {
        "ENVSYNC_CONFIG": str(tmp_path / "lab.yaml"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }


@pytest.fixture
def heard(variables: dict[str, str]) -> Iterator[list[Request]]:
    """What a daemon is asked, apart from its status."""
    heard_by = ControlSocket(DaemonPaths.of(variables, socket.gethostname()).socket)
    end, ended = os.pipe()
    requests: list[Request] = []

    def handle(request: Request) -> Answer:
        if request["verb"] != "status":
            requests.append(request)
        return {}

    def serve() -> None:
        while end not in select.select([heard_by.fd, end], [], [])[0]:
            heard_by.serve_one(handle)

    thread = threading.Thread(target=serve)
    thread.start()
    yield requests
    os.close(ended)
    thread.join()
    heard_by.close()
    os.close(end)


@pytest.mark.parametrize(
    ("line", "servers"),
    [
        ("push myenv", ["gpu1", "gpu2"]),
        ("push myenv gpu2 --as another", []),
        ("push myenv --dry-run", []),
        ("unpack file.tar.gz gpu2 --as myenv", ["gpu2"]),
        ("unpack file.tar.gz gpu2", []),
        ("bootstrap gpu1", ["gpu1"]),
        ("bootstrap gpu1 --dry-run", []),
    ],
)
def test_daemon_is_told_where_a_command_may_have_changed_something(
    envsync: Envsync, variables: dict[str, str], heard: list[Request], line: str, servers: list[str]
) -> None:
    assert envsync(*line.split(), **variables).status == 0
    look = {"verb": "look", "environments": ["myenv"], "servers": servers, "pushed": {}}
    assert heard == ([look] if servers else [])


@pytest.mark.parametrize(
    ("line", "pushed"),
    [
        ("push myenv", {"gpu1": "r1"}),
        ("push myenv --method rebuild", {"gpu1": "r1"}),
        ("push myenv --method pack", {}),
        ("push myenv --from gpu3", {}),
        ("push another gpu1 gpu2 --as myenv", {}),
        ("unpack file.tar.gz gpu1 gpu2 --as myenv", {}),
    ],
)
def test_daemon_is_told_what_a_push_of_the_environment_here_has_left_where(
    envsync: Envsync,
    variables: dict[str, str],
    heard: list[Request],
    line: str,
    pushed: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if it is stopped before it is done."""

    def stop(_: object, __: object, on_known: OnKnown, *___: object) -> None:
        failed = PushReport("gpu2", "myenv", FAILED, "r1", error=ConnectionFailed("it is off"))
        on_known([PushReport("gpu1", "myenv", PUSHED, "r1").to_json(), failed.to_json()])
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "push_and_show", stop)
    (tmp_path / "conda/envs/another").mkdir()
    assert envsync(*line.split(), **variables).status == 130
    assert [request["pushed"] for request in heard] == [pushed]


def test_daemon_is_told_of_a_push_that_was_stopped(
    envsync: Envsync,
    variables: dict[str, str],
    heard: list[Request],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some of the servers may have the new version by then."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "push_and_show", stop)
    assert envsync("push", "myenv", **variables).status == 130
    assert [request["servers"] for request in heard] == [["gpu1", "gpu2"]]


@pytest.fixture
def silent_daemon(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that takes no connection: it hangs, or was stopped."""
    monkeypatch.setattr(running_daemon, "_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(control, "ask_daemon", partial(control.ask_daemon, within_seconds=0.05))
    silent = ControlSocket(DaemonPaths.of(variables, socket.gethostname()).socket)
    yield
    silent.close()


@pytest.mark.usefixtures("silent_daemon")
@pytest.mark.parametrize("line", ["status", "daemon pause myenv", "daemon sync"])
def test_daemon_that_does_not_answer_is_told_of(
    envsync: Envsync, variables: dict[str, str], line: str
) -> None:
    ended = envsync(*line.split(), **variables)
    assert ended.status == 23
    assert "envsync: the daemon does not answer: no answer in time\n" in ended.err
    assert "journalctl --user -u envsync" in ended.err


@pytest.mark.usefixtures("silent_daemon")
def test_daemon_that_does_not_answer_stops_no_push(
    envsync: Envsync, variables: dict[str, str]
) -> None:
    assert envsync("push", "myenv", **variables).status == 0
