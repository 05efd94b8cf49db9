"""Two names for one place: one push serves both, and each says so."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.places.layout import environment_layout
from envsync.agent.places.locks import PushLock
from envsync.agent.wire.build_operations import PublishFacts
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.errors import Locked
from envsync.push.ends import command_locks
from envsync.push.ends.command_locks import CommandLocks
from envsync.push.ends.end import End, LocalEnd
from envsync.push.ends.target_end import TargetEnd
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.queries.servers import for_each_server
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import PushReport
from envsync.push.switches.remove import Removal, Removed, remove_environment
from tests.integration.push.command import Envsync
from tests.integration.push.places import trees
from tests.lab.lab import Lab
from tests.support import disk
from tests.support.pushes import NAME, environment
from tests.support.trees import file

NODES = environment({b"lib/%d" % n: file(b"%d" % n) for n in range(20)})
WAIT_SECONDS = 30.0
INVENTORY = """\
prefix: {prefix}
servers:
  server1: {{}}
  server2: {{}}
  again: server2
environments:
  myenv: {{source: server1, push_to: [server2, again]}}
"""


@pytest.mark.timeout(120)
def test_a_host_that_is_in_the_inventory_twice(conda_lab: Lab, envsync: Envsync) -> None:
    envsync.configure(INVENTORY.format(prefix=conda_lab.controller.prefix))
    for outcomes in (["in-step", "pushed"], ["in-step", "in-step"]):
        servers = envsync.push().servers
        assert sorted(server["outcome"] for server in servers) == outcomes
        told = [line for server in servers for line in server["warnings"] if "same place" in line]
        assert len(told) == 1
    assert len(trees(conda_lab["server2"])) == 0


@pytest.mark.timeout(120)
def test_a_host_that_is_in_the_inventory_twice_is_swept_and_cleared_once(
    conda_lab: Lab, envsync: Envsync
) -> None:
    envsync.configure(INVENTORY.format(prefix=conda_lab.controller.prefix))
    envsync.push()
    envsync.ok("gc", "server2", "again")
    servers = envsync.ok("remove", "myenv", "server2", "again").servers
    [removed] = [server for server in servers if server["record"]]
    [told] = [server for server in servers if not server["record"]]
    assert (removed["same_place_as"], told["same_place_as"]) == ("", removed["server"])
    assert envsync.ok("rollback", "myenv", "again").result["record"] == removed["record"]


@dataclass(frozen=True, slots=True)
class Scene:
    """A small environment, and one place for it that has the names `one` and `two`."""

    source: Place
    settings: PushSettings
    there: Path

    def push(self) -> list[PushReport]:
        destinations = [Destination(name, str(self.there), None) for name in ("one", "two")]
        return FanOut(self.settings, self.source, destinations).run()

    def lock(self) -> PushLock:
        return PushLock(environment_layout(str(self.there), NAME), Requester("bob@elsewhere"))


@pytest.fixture
def scene(own_homes: None, tmp_path: Path) -> Scene:
    for prefix in ("here", "there"):
        for name in ("envs", "conda-meta"):
            (tmp_path / prefix / name).mkdir(parents=True)
    source = tmp_path / "here/envs" / NAME
    source.mkdir()
    disk.build(os.fsencode(source), NODES)
    settings = PushSettings(NAME, "here", "alice@here")
    return Scene(Place("here", str(tmp_path / "here")), settings, tmp_path / "there")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a push met a lock; none publishes before that."""
    met = threading.Event()
    acquire, publish = PushLock.acquire, TargetEnd.publish

    def acquiring(lock: PushLock) -> None:
        try:
            acquire(lock)
        except Locked:
            met.set()
            raise

    def publishing(target: TargetEnd, *arguments: Any, **more: Any) -> PublishFacts:
        assert met.wait(WAIT_SECONDS)
        return publish(target, *arguments, **more)

    monkeypatch.setattr(PushLock, "acquire", acquiring)
    monkeypatch.setattr(TargetEnd, "publish", publishing)
    return met


def test_second_name_of_a_place_waits_for_the_lock_of_its_own_command(
    scene: Scene, refused: threading.Event
) -> None:
    reports = scene.push()
    assert refused.is_set()
    pushed, in_step = sorted(reports, key=lambda report: report.outcome, reverse=True)
    assert [report.error for report in reports] == [None, None]
    assert (pushed.outcome, in_step.outcome) == ("pushed", "in-step")
    said = f"it is the same place as {pushed.server}: one push serves both"
    assert said in in_step.warnings
    assert said not in pushed.warnings
    assert disk.read(os.fsencode(scene.there / "envs" / NAME)) == NODES


def test_refusal_of_a_place_is_reported_for_both_its_names(scene: Scene) -> None:
    (scene.there / "envs" / NAME).mkdir()
    disk.build(os.fsencode(scene.there / "envs" / NAME), environment({b"other": file(b"")}))
    codes = [report.error.code for report in scene.push() if report.error is not None]
    assert codes == ["drift", "drift"]


def test_anybody_elses_lock_is_not_waited_for(scene: Scene) -> None:
    lock = scene.lock()
    lock.acquire()
    errors = [report.error for report in scene.push()]
    lock.release()
    assert [error and error.code for error in errors] == ["locked", "locked"]
    assert all(error and "bob@elsewhere" in error.message for error in errors)


def test_an_agent_that_does_not_end_is_not_waited_for_longer(
    scene: Scene, refused: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was suspended: its push is over, and it has the lock still."""
    monkeypatch.setattr(command_locks, "_GONE_SECONDS", 0.2)
    monkeypatch.setattr(LocalEnd, "close", lambda _: None)
    outcomes = sorted(report.outcome for report in scene.push())
    assert outcomes == ["failed", "pushed"]


def test_two_names_of_this_machine_are_one_place(scene: Scene) -> None:
    """Whose lock goes with the end that took it, and not with the process."""
    assert [report.error for report in scene.push()] == [None, None]
    command_locks = CommandLocks(("one", "two"))

    def ask(end: End, place: Place) -> Removed:
        try:
            target = TargetEnd(
                end,
                OpenTarget(place.prefix, NAME, (), Requester("alice@here", command_locks.command)),
            )
            removal = Removal(NAME, "alice@here")
            return remove_environment(
                target, lambda: contextlib.nullcontext(target), removal, command_locks
            )
        finally:
            command_locks.over(place.server)

    places = [Place(name, str(scene.there), None) for name in ("one", "two")]
    outcomes = for_each_server(places, ask)
    assert [outcome.error for outcome in outcomes] == [None, None]
    told = [outcome.value.same_place_as for outcome in outcomes if outcome.value is not None]
    assert sorted(told) in (["", "one"], ["", "two"])
    reports = scene.push()
    assert [report.error for report in reports] == [None, None]
    assert any("; this puts it back" in report.put_back for report in reports)
