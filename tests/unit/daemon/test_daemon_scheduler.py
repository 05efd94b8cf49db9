"""What is scanned and pushed when, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsync.daemon.rows import IN_STEP, LAGGING
from envsync.daemon.tasks import Task
from envsync.daemon.triggers import Observation
from envsync.errors import NotFound
from tests.unit.daemon.simulation import (
    FIRST_SCANS,
    RESCAN,
    SETTLE,
    SimulatedDaemon,
    StartDaemon,
    check_of,
)

GONE = NotFound("there is no environment")


def test_a_scan_begins_although_time_passes_in_the_turn(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    daemon.tick_seconds = 1e-6
    assert daemon.work() == FIRST_SCANS
    assert daemon.next_turn_seconds > daemon.now + 1


def test_the_first_start_scans_once_and_pushes_what_has_settled(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    assert daemon.work() == FIRST_SCANS
    assert daemon.later(SETTLE - 0.1) == []
    tasks = daemon.later(1)
    assert tasks == [Task(("one",), ("a", "b")), Task(("two",), ("a", "b"))]


def test_many_events_make_one_push(daemon: SimulatedDaemon) -> None:
    daemon.world["one"] = "r2"
    for _ in range(20):
        daemon.scheduler.hint(["one", "unknown"])
        assert daemon.later(1) == []
    assert daemon.later(SETTLE) == [Task(("one",), ("a", "b"))]
    assert daemon.later(RESCAN / 2) == []
    assert [daemon.row("one", s).revision for s in "ab"] == ["r2", "r2"]


def test_each_check_of_a_turn_is_told_because_it_can_take_seconds(
    daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog hears of it."""
    told: list[float] = []
    monkeypatch.setattr(daemon.scheduler, "_on_checked", lambda: told.append(daemon.now))
    daemon.scheduler.hint(["one", "two"])
    daemon.now += SETTLE
    daemon.turn()
    assert told == [daemon.now] * 2


def test_an_installer_is_waited_for(daemon: SimulatedDaemon) -> None:
    check_of(daemon, "one").seen = Observation(busy="pip (process 7)")
    daemon.scheduler.hint(["one"])
    assert daemon.later(120) == []
    assert daemon.scheduler.activities["one"].busy == "pip (process 7)"
    check_of(daemon, "one").seen = Observation()
    assert daemon.later(SETTLE - 1) == []
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]


def test_an_environment_that_is_gone_and_comes_back(daemon: SimulatedDaemon) -> None:
    worker = daemon.push_begun()
    worker.report_failure(GONE)
    daemon.end(worker)
    assert daemon.later(RESCAN / 2) == []
    error = daemon.store.state.sources["one"].error
    assert error is not None
    assert error.code == "not-found"
    rows = [daemon.row("one", server) for server in "ab"]
    assert [(row.state, row.error) for row in rows] == [(LAGGING, None)] * 2
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.states() == [IN_STEP] * 4


def test_change_during_a_push_is_pushed_after_it(daemon: SimulatedDaemon) -> None:
    daemon.push_begun()
    daemon.change_one("r2")
    daemon.now += SETTLE
    assert daemon.turn() == [Task(("one",), is_settled=True)]  # nobody is free to take it
    for worker in daemon.at_work()[::-1]:
        daemon.world["one"] = "r1" if worker.task.is_push else "r2"
        daemon.finish(worker)
    daemon.world["one"] = "r2"
    daemon.later(1)
    assert [daemon.row("one", s).revision for s in "ab"] == ["r2", "r2"]


def test_a_slow_push_of_an_older_version_says_nothing_of_servers_that_have_the_newer(
    daemon: SimulatedDaemon,
) -> None:
    slow = daemon.push_begun()
    slow.report_push("b", revision="r1")
    daemon.scheduler.read_worker(slow.fd)
    daemon.change_one("r2")
    daemon.now += SETTLE
    assert daemon.turn() == [Task(("one",), ("b",))]
    daemon.finish(daemon.at_work()[-1])
    slow.report_revision("r1")
    daemon.scheduler.read_worker(slow.fd)
    row = daemon.row("one", "b")
    assert (row.state, row.revision) == (IN_STEP, "r2")


def test_a_restart_pushes_only_what_changed_meanwhile(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    again = start_daemon()
    assert again.later(60) == FIRST_SCANS
    third = start_daemon()
    third.world["two"] = "r2"
    assert third.later(60) == [*FIRST_SCANS, Task(("two",), ("a", "b"))]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["change", "hint", "down", "up", "rescan"]), st.floats(0, 90)),
        max_size=12,
    )
)
def test_whatever_happens_all_are_equal_in_the_end_and_the_loop_rests(
    start_daemon: StartDaemon, steps: list[tuple[str, float]]
) -> None:
    daemon = start_daemon()
    for number, (step, seconds) in enumerate(steps):
        if step == "change":
            daemon.change_one(f"change {number}")
        elif step == "hint":
            daemon.scheduler.hint(["one", "two"])
        elif step in ("down", "up"):
            daemon.down = {"a"} if step == "down" else set()
        else:
            daemon.world["two"] = f"silent {number}"
        daemon.later(seconds)
    daemon.down = set()
    daemon.later(RESCAN + 120)
    assert daemon.states() == [IN_STEP] * 4
    for name, server in daemon.store.state.servers:
        assert daemon.row(name, server).revision == daemon.world[name]
    assert daemon.work() == []
    assert daemon.next_turn_seconds > daemon.now + RESCAN / 2  # nothing wakes it for nothing
