"""A push to several servers: what is told of it, and what is not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from envsync.errors import ConnectionFailed, ConnectionLost
from envsync.push import server_pool
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.request.places import Destination
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import FAILED, PushReport
from envsync.ssh.session import Link
from tests.support import disk
from tests.support.pushes import NAME, environment


@pytest.fixture
def fan_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FanOut:
    for name in ("cache", "state"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    (tmp_path / "envs" / NAME).mkdir(parents=True)
    disk.build(os.fsencode(tmp_path / "envs" / NAME), environment({}))
    return FanOut(PushSettings(NAME, str(tmp_path), f"here:{tmp_path}", "alice@here"), "here")


def test_what_ended_because_it_was_stopped_is_not_told(fan_out: FanOut) -> None:
    connecting = threading.Event()

    def refuse() -> Link:
        assert connecting.wait(20)
        raise ConnectionFailed("it refuses connections")

    def be_stopped() -> Link:
        connecting.set()
        assert told.wait(20)
        fan_out.stop()
        raise ConnectionLost("the connection was lost")

    seen: list[str] = []
    told = threading.Event()

    def on_report(report: PushReport) -> None:
        seen.append(report.server)
        told.set()

    destinations = [Destination("server2", "/p", be_stopped), Destination("server3", "/p", refuse)]
    reports = fan_out.run(destinations, on_report=on_report)
    assert [report.outcome for report in reports] == [FAILED, FAILED]
    assert seen == ["server3"]


def test_servers_that_are_silent_while_they_are_opened_hold_up_nobody(
    fan_out: FanOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_pool, "PATIENCE_SECONDS", 0.05)
    reached = threading.Event()

    def be_silent() -> Link:
        assert reached.wait(60), "the last one waited for those that are silent"
        raise ConnectionFailed("it does not answer")

    def refuse() -> Link:
        reached.set()
        raise ConnectionFailed("it refuses connections")

    silent = [
        Destination(f"server{number}", "/p", be_silent) for number in range(server_pool.AT_ONCE)
    ]
    reports = fan_out.run([*silent, Destination("last", "/p", refuse)])
    assert {report.outcome for report in reports} == {FAILED}
