"""A push to several servers: what is told of it, and what is not."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envsync.errors import ConnectionFailed, ConnectionLost
from envsync.push import server_pool
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.fan_out.start_signal import StartSignal
from envsync.push.request.places import Destination
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import FAILED, PushReport
from envsync.ssh.session import Link
from tests.support import disk
from tests.support.pushes import NAME, environment


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PushSettings:
    for name in ("cache", "state"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    (tmp_path / "envs" / NAME).mkdir(parents=True)
    disk.build(os.fsencode(tmp_path / "envs" / NAME), environment({}))
    return PushSettings(NAME, str(tmp_path), f"here:{tmp_path}", "alice@here")


@pytest.fixture
def fan_out(settings: PushSettings) -> FanOut:
    return FanOut(settings, "here")


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


class _Awaited(threading.Event):
    """An event that calls `on_wait` when somebody begins to wait for it."""

    def __init__(self, on_wait: Callable[[], object]) -> None:
        super().__init__()
        self._on_wait = on_wait

    def wait(self, timeout: float | None = None) -> bool:
        self._on_wait()
        return super().wait(timeout)


@pytest.mark.parametrize(
    "error", [ConnectionFailed("it refuses connections"), OSError(errno.ENOSPC, "no space", "/tmp")]
)
def test_what_fails_ahead_of_the_start_signal_is_told_after_it(
    error: Exception, settings: PushSettings
) -> None:
    """Until then nobody has asked for the push, and the daemon drops what is told of it."""
    fan_out = FanOut(settings, "here", start_signal=(start_signal := StartSignal()))
    failed, seen = threading.Event(), list[PushReport]()
    fan_out._may_begin = _Awaited(failed.set)

    def fail() -> Link:
        raise error

    def on_report(report: PushReport) -> None:
        seen.append(report)
        failed.set()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            fan_out.run, [Destination("server2", "/p", fail)], on_report=on_report
        )
        assert failed.wait(60)
        early = list(seen)
        start_signal.say(is_changed_since=False)
        [report] = running.result(60)
    assert (early, seen) == ([], [report])
    assert report.error is not None
    assert report.error.server == "server2"
