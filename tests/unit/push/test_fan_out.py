"""A push to several servers: what is told of it, and what is not."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from envsync.agent.operations.service import Service
from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.wire.build_operations import PUBLISH
from envsync.errors import ConnectionFailed, ConnectionLost, EnvsyncError
from envsync.push import server_pool
from envsync.push.fan_out import fan_out as fan_out_module
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.fan_out.targets import Targets
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import FAILED, PUSHED, PushReport
from envsync.ssh.session import Link
from tests.support import disk
from tests.support.processes import wait_until_alone
from tests.support.pushes import NAME, environment


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PushSettings:
    for name in ("cache", "state"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    (tmp_path / "envs" / NAME).mkdir(parents=True)
    disk.build(os.fsencode(tmp_path / "envs" / NAME), environment({}))
    return PushSettings(NAME, f"here:{tmp_path}", "alice@here")


@pytest.fixture
def source(tmp_path: Path) -> Place:
    return Place("here", str(tmp_path))


def test_push_that_ends_because_it_was_stopped_is_not_reported(
    settings: PushSettings, source: Place
) -> None:
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
    fan_out = FanOut(settings, source, destinations, on_report=on_report)
    reports = fan_out.run()
    assert [report.outcome for report in reports] == [FAILED, FAILED]
    assert seen == ["server3"]


class _Switch:
    """A push that is interrupted (Ctrl-C) when it has asked for the switch, and no answer came."""

    def __init__(
        self, settings: PushSettings, source: Place, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._there = there
        (there / "envs").mkdir(parents=True)
        self.may_answer = threading.Event()
        self.told: list[PushReport] = []
        destinations = [Destination("there", str(there), None)]
        self.fan_out = FanOut(settings, source, destinations, on_report=self.told.append)
        ask = Service.ask

        def interrupted(service: Service, operation: Any, request: Any) -> Any:
            if operation is PUBLISH:
                os.kill(os.getpid(), signal.SIGINT)
                assert self.may_answer.wait(60)
            return ask(service, operation, request)

        monkeypatch.setattr(Service, "ask", interrupted)

    def run(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.fan_out.run()

    def is_live_at_the_end(self) -> bool:
        for thread in threading.enumerate():
            if thread.name.startswith("server"):
                thread.join(60)
        return (self._there / "envs" / NAME).is_dir()


@pytest.fixture
def switch(
    settings: PushSettings, source: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> _Switch:
    return _Switch(settings, source, tmp_path / "there", monkeypatch)


def test_an_interrupted_push_tells_of_a_switch_that_is_answered_soon(
    switch: _Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out_module, "SWITCH_SECONDS", 60.0)
    stop = switch.fan_out.stop

    def answer_once_stopped() -> None:
        stop()
        switch.may_answer.set()

    monkeypatch.setattr(switch.fan_out, "stop", answer_once_stopped)
    switch.run()
    assert [report.outcome for report in switch.told] == [PUSHED]
    assert switch.fan_out.in_doubt() == []
    assert switch.is_live_at_the_end()


def test_an_interrupted_push_says_where_it_is_unknown_whether_it_switched(
    switch: _Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out_module, "SWITCH_SECONDS", 0.0)
    switch.run()
    [report] = switch.fan_out.in_doubt()
    switch.may_answer.set()
    assert switch.is_live_at_the_end()
    assert (report.server, report.outcome, report.environment) == ("there", FAILED, NAME)
    assert report.error is not None
    assert "stopped during the switch: the old or the new version is there" in report.error.message
    assert report.error.hint.startswith("`envsync list there` shows which")


def test_stopped_push_switches_nothing(settings: PushSettings, tmp_path: Path) -> None:
    targets = Targets(settings, "")
    with targets.opened(Destination("there", str(tmp_path), None)) as target:
        targets.stop()
        with pytest.raises(EnvsyncError, match="stopped before the switch"):
            target.before_switch()
    assert targets.switching() == []


def test_helpers_end_with_a_source_that_cannot_be_opened(
    settings: PushSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bootstrap` goes on with the next environment, in the same process."""

    def refuse() -> Link:
        raise ConnectionFailed("it refuses connections")

    helpers: list[HelperProcesses] = []
    fork = HelperProcesses.fork

    def forked(*arguments: Any, **options: Any) -> HelperProcesses:
        helpers.append(fork(*arguments, **options))
        return helpers[-1]

    monkeypatch.setattr(HelperProcesses, "fork", forked)
    wait_until_alone()
    with pytest.raises(ConnectionFailed):
        FanOut(settings, Place("off", "/p", refuse), [Destination("there", str(tmp_path), None)])
    assert [len(processes) for processes in helpers] == [0]


def test_servers_that_are_silent_while_they_are_opened_hold_up_nobody(
    settings: PushSettings, source: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_pool, "SLOT_SECONDS", 0.05)
    reached = threading.Event()

    def be_silent() -> Link:
        assert reached.wait(60), "the last one waited for those that are silent"
        raise ConnectionFailed("it does not answer")

    def refuse() -> Link:
        reached.set()
        raise ConnectionFailed("it refuses connections")

    silent = [
        Destination(f"server{number}", "/p", be_silent)
        for number in range(server_pool.SERVERS_AT_ONCE)
    ]
    destinations = [*silent, Destination("last", "/p", refuse)]
    reports = FanOut(settings, source, destinations).run()
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
    ("error", "code"),
    [
        (ConnectionFailed("it refuses connections"), "connection-failed"),
        (OSError(errno.ENOSPC, "no space", "/tmp"), "no-space"),
        (OSError(errno.EMFILE, "too many open files"), "limit-reached"),
        (OSError(errno.ENOTTY, "no terminal"), "unexpected"),
    ],
)
def test_failure_ahead_of_the_start_signal_is_reported_after_it(
    error: Exception, code: str, settings: PushSettings, source: Place
) -> None:
    """Until then nobody has asked for the push, and the daemon drops what is told of it."""
    failed, seen = threading.Event(), list[PushReport]()

    def fail() -> Link:
        raise error

    def on_report(report: PushReport) -> None:
        seen.append(report)
        failed.set()

    destinations = [Destination("server2", "/p", fail)]
    start_signal = SimpleQueue[bool]()
    fan_out = FanOut(settings, source, destinations, on_report=on_report)
    fan_out._may_begin = _Awaited(failed.set)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fan_out.run, start_signal.get)
        assert failed.wait(60)
        early = list(seen)
        start_signal.put(False)
        [report] = running.result(60)
    assert (early, seen) == ([], [report])
    assert report.error is not None
    assert (report.error.server, report.error.code) == ("server2", code)
