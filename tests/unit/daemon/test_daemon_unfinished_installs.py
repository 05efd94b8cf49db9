"""Installs that ended halfway: reported, and pushed only if a person says so."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from envsync.daemon import store
from envsync.daemon.log import Log
from envsync.daemon.request_handler import RequestHandler
from envsync.daemon.rows import IN_STEP, LAGGING
from envsync.daemon.status import DaemonFacts, document
from envsync.daemon.tasks import Task
from envsync.daemon.triggers import Observation
from envsync.errors import StorageFailed
from tests.unit.daemon.simulation import (
    BUSY,
    FIRST_SCANS,
    RESCAN,
    SETTLE,
    FakeInstallCheck,
    SimulatedDaemon,
    StartDaemon,
    check_of,
)


def _handler(daemon: SimulatedDaemon) -> RequestHandler:
    def known() -> dict[str, Any]:
        return document(daemon.store.state, daemon.scheduler.activities, DaemonFacts())

    return RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), known)


def test_a_broken_install_is_told_and_not_pushed_until_it_is_mended(
    daemon: SimulatedDaemon,
) -> None:
    check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.change_one("r2")
    assert daemon.later(300) == []
    error = daemon.store.state.sources["one"].error
    assert error is not None
    assert "an installer left ~umpy" in error.message
    assert len([line for line in daemon.lines if "~umpy" in line]) == 1
    check_of(daemon, "one").seen = Observation()
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.store.state.sources["one"].error is None


@pytest.mark.parametrize("is_paused", [False, True])
def test_what_a_push_by_hand_left_where_the_daemon_does_not_push_is_shown(
    daemon: SimulatedDaemon, is_paused: bool
) -> None:
    """Also that other servers lag behind it, and that it has used up the spare tree."""
    half, scan, handler = "2" * 64, Task(("one",)), _handler(daemon)
    daemon.scheduler.pause(["one"], paused=is_paused)
    if not is_paused:
        check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
        daemon.scheduler.hint(["one"])
        assert daemon.later(300) == []
    daemon.world["one"] = half
    look = {"verb": "look", "environments": ["one"], "servers": ["a"], "pushed": {"a": half}}
    assert handler.handle(look) == {"environments": ["one"]}
    assert set(daemon.later(60)) == (
        {scan, scan._replace(is_settled=True)} if is_paused else {scan}
    )
    source = handler.handle({"verb": "status"})["status"]["environments"][0]
    assert (source["revision"], bool(source["error"])) == (half, not is_paused)
    found = [(known["state"], known["revision"]) for known in source["servers"]]
    assert found == [(IN_STEP, half), (LAGGING, "r1")]
    check_of(daemon, "one").seen = Observation()
    daemon.scheduler.pause(["one"], paused=False)
    pushed_to = ("b",) if is_paused else ("a", "b")
    assert daemon.later(300) == [Task(("one",), pushed_to)]
    assert daemon.spares[-1] == Task(("one",), ("a",), makes_spare=True)


def test_what_is_claimed_to_be_pushed_is_looked_at_where_the_daemon_pushes(
    daemon: SimulatedDaemon,
) -> None:
    look = {"verb": "look", "environments": ["one"], "servers": ["b"], "pushed": {"b": "2" * 64}}
    _handler(daemon).handle(look)
    assert daemon.later(60) == [Task(("one",), ("b",))]
    assert daemon.row("one", "b").revision == "r1"


@pytest.mark.parametrize("pushed", [None, "b", ["b"], {"b": None}, {"b": "r2"}, {"c": "2" * 64}])
def test_a_malformed_claim_counts_for_nothing(daemon: SimulatedDaemon, pushed: object) -> None:
    daemon.scheduler.pause(["one"], paused=True)
    look = {"verb": "look", "environments": ["one"], "servers": ["b"], "pushed": pushed}
    assert _handler(daemon).handle(look) == {"environments": ["one"]}
    assert daemon.row("one", "b").state == LAGGING
    assert daemon.later(60) == []


def test_what_has_long_been_unfinished_in_an_environment_seen_for_the_first_time_is_accepted(
    daemon: SimulatedDaemon,
) -> None:
    found, sign = check_of(daemon, "three"), "an installer left ~umpy"
    found.old, found.seen = (sign,), Observation(unfinished=(sign,))
    daemon.world["three"] = "r1"
    daemon.scheduler.adopt(daemon.assignments(three=("a",)))
    assert daemon.later(SETTLE + 1) == [Task(("three",)), Task(("three",), ("a",))]
    assert daemon.store.state.sources["three"].tolerated == (sign,)


def test_a_rescan_does_not_push_what_is_broken(daemon: SimulatedDaemon) -> None:
    check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.change_one("r2")
    assert daemon.later(2 * RESCAN + 10) == [Task(("one", "two"))] * 2


def test_a_restart_does_not_push_what_is_broken(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """Nor does a scan of it, or one that failed, take back what was found."""
    signs = ("half-1.0 is installed in part: it has no INSTALLER",)
    check_of(daemon, "one").seen = Observation(unfinished=signs)
    daemon.change_one("half")
    daemon.later(RESCAN + 10)
    daemon.scheduler.sources["one"].failed(BUSY)
    row = daemon.store.state.sources["one"]
    assert (row.revision, row.is_unfinished) == ("half", True)
    assert row.error is not None
    assert signs[0] in row.error.message
    again = start_daemon(*signs)
    again.world["one"] = "half"
    assert again.later(RESCAN + 60) == [*FIRST_SCANS, Task(("one", "two"))]
    check_of(again, "one").seen = Observation()
    assert again.later(600) == [Task(("one",), ("a", "b"))]
    assert again.store.state.sources["one"].error is None


def test_a_start_at_which_the_state_cannot_be_read_forgets_nothing_that_is_broken(
    start_daemon: StartDaemon,
    daemon: SimulatedDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no start: otherwise, what is there would be taken for complete, as at a first one."""
    check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.change_one("half")
    daemon.later(60)
    before = daemon.store.state.sources["one"]
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.05)
    database = sqlite3.connect(tmp_path / "daemon.sqlite", isolation_level=None)
    with contextlib.closing(database):
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageFailed, match="locked"):
            start_daemon()
    again = start_daemon("an installer left ~umpy")
    again.world["one"] = "half"
    assert check_of(again, "one").known == before
    assert again.later(300) == FIRST_SCANS
    assert again.store.state.sources["one"].is_unfinished


def test_install_that_ended_with_the_daemon_is_checked_before_a_push(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """Also where a scan has found meanwhile what it has left."""
    check_of(daemon, "one").seen = Observation(busy="pip (process 7)")
    daemon.change_one("half")
    daemon.scheduler.sources["one"].scanned("half", len(daemon.workers))
    daemon.scheduler.sync_state.source_scanned("one", "half")
    assert daemon.row("one", "a").state == LAGGING
    signs = ("half is in no installed distribution",)
    again = start_daemon(*signs)
    again.world["one"] = "half"
    assert again.later(RESCAN + 60) == [*FIRST_SCANS, Task(("one", "two"))]
    error = again.store.state.sources["one"].error
    assert error is not None
    assert error.code == "unfinished"
    check_of(again, "one").seen = Observation()
    assert again.later(600) == [Task(("one",), ("a", "b"))]
    assert not again.store.state.sources["one"].is_unchecked


def test_an_install_killed_while_no_daemon_ran_is_not_pushed_to_a_server_that_lags(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    daemon.scheduler.look_again(["one"], ["b"])
    assert daemon.row("one", "b").state == LAGGING
    again = start_daemon("half is in no installed distribution")
    again.world["one"] = "half"
    assert again.later(RESCAN + 60) == [*FIRST_SCANS, Task(("one", "two"))]
    assert again.store.state.sources["one"].is_unfinished


def test_when_a_check_found_it_complete_is_known_after_a_restart(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """Of what stands at that path: at another one, it is a first look."""
    assert check_of(daemon, "one").known is None
    start = check_of(daemon, "one").accepted_seconds
    daemon.scheduler.hint(["one"])
    for wait_seconds, accepted_seconds in ((SETTLE - 1, start), (1, start + 1)):
        daemon.later(wait_seconds)
        restarted = start_daemon()
        known = check_of(restarted, "one").known
        assert known is not None
        assert known.accepted_seconds == accepted_seconds
    restarted.checks["/q/one"] = FakeInstallCheck("one")
    restarted.edit(path="/q/one")
    assert restarted.checks["/q/one"].known is None


def test_what_a_person_accepted_stays_accepted_while_the_source_is_away(
    daemon: SimulatedDaemon,
) -> None:
    remains = Observation(unfinished=("an installer left ~umpy",))
    for seen in (remains, Observation(is_there=False)):
        check_of(daemon, "one").seen = seen
        daemon.scheduler.sync("one")
        daemon.work()
    check_of(daemon, "one").seen = remains
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]


def test_a_person_may_have_it_pushed_as_it_is(daemon: SimulatedDaemon) -> None:
    check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.scheduler.hint(["one"])
    daemon.later(60)
    handler = RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), dict)
    for accepted in (["one: an installer left ~umpy"], []):
        answer = handler.handle({"verb": "sync", "environments": ["one"]})
        assert answer["accepted"] == accepted, "only what is new is told"
    assert daemon.work() == [Task(("one",), ("a", "b"))]
    daemon.scheduler.hint(["one"])  # and is not asked again
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]


def test_accepted_remains_stay_accepted_while_an_installer_runs(daemon: SimulatedDaemon) -> None:
    remains = Observation(unfinished=("an installer left ~umpy",))
    check_of(daemon, "one").seen = remains
    daemon.scheduler.sync("one")
    daemon.work()
    check_of(daemon, "one").seen = Observation(busy="pip (process 7)")
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == []
    check_of(daemon, "one").seen = remains
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    check_of(daemon, "one").seen = Observation()
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE + 1)
    assert daemon.store.state.sources["one"].tolerated == ()
