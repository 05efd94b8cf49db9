"""Servers that are off, slow, or refuse a version: when they are tried again, and with what."""

from __future__ import annotations

import random

import pytest

from envsync.daemon import worker_limits
from envsync.daemon.rows import HALTED, HELD, IN_STEP, LAGGING, PUSHING, RETRYING
from envsync.daemon.tasks import Task
from envsync.daemon.triggers import REFUSED_MAX_SECONDS
from envsync.daemon.worker_limits import PUSHING_MAX, SLOW_SECONDS
from envsync.daemon.worker_messages import PushBegun, SourceScanned
from envsync.errors import RevisionHeld, TargetDrifted, TransferFailed
from tests.unit.daemon.simulation import (
    BUSY,
    DOWN,
    RESCAN,
    SETTLE,
    FakeInstallCheck,
    FakeProcess,
    SimulatedDaemon,
    StartDaemon,
)

REFUSED = TargetDrifted("it was changed there", hint="x")


def test_server_that_is_off_is_tried_by_one_environment(
    daemon: SimulatedDaemon,
) -> None:
    daemon.down = {"b"}
    for number in range(2, 6):
        daemon.world = {"one": f"r{number}", "two": f"r{number}"}
        daemon.scheduler.hint(["one", "two"])
        daemon.later(60)
    assert daemon.states() == [IN_STEP, RETRYING] * 2
    tries = daemon.later(600)
    assert 15 < len(tries) < 30, "one environment speaks for all"
    assert {task.servers for task in tries} == {("b",)}
    next_tries = [daemon.row(name, "b").next_try_seconds for name in ("one", "two")]
    assert next_tries[0] == next_tries[1], "status shows when it is tried, for both"
    daemon.down = set()
    daemon.later(40)
    assert daemon.states() == [IN_STEP] * 4
    assert daemon.row("two", "b").revision == "r5"
    assert daemon.later(60) == []
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))], "it is one of them again"


def test_a_server_that_refuses_a_version_answers_again(daemon: SimulatedDaemon) -> None:
    daemon.down = {"b"}
    daemon.change_one("r2")
    daemon.later(120)
    daemon.down, daemon.refused = set(), {"b": REFUSED}
    daemon.later(40)
    assert daemon.row("one", "b").state == HALTED
    daemon.scheduler.hint(["two"])
    assert daemon.later(SETTLE + 1) == [Task(("two",), ("a", "b"))]


@pytest.mark.parametrize("event", ["look", "sync"])
def test_a_person_does_not_wait_for_the_next_try_of_a_server_that_was_off(
    daemon: SimulatedDaemon, event: str
) -> None:
    daemon.down = {"b"}
    daemon.change_one("r2")
    daemon.later(120)
    while not daemon.later(1):
        pass
    row = daemon.row("one", "b")
    assert row.next_try_seconds is not None
    assert row.next_try_seconds > daemon.now + 20
    daemon.down = set()
    if event == "look":
        daemon.scheduler.look_again(["one"], ["b"])
    else:
        daemon.scheduler.sync("one")
        assert (daemon.row("one", "b").next_try_seconds, daemon.row("one", "b").attempts) == (
            daemon.now,
            0,
        )
    assert daemon.work() == [Task(("one",), ("b",) if event == "look" else ("a", "b"))]


def test_what_pushes_warn_of_and_relax_is_logged_once(daemon: SimulatedDaemon) -> None:
    def told() -> list[str]:
        """What is new in the log of that, without the time, of the one server."""
        lines = [line.partition("one -> a: ")[2] for line in daemon.lines]
        daemon.lines.clear()
        return [line for line in lines if line.startswith(("warning: ", "relaxed: "))]

    def push(revision: str) -> list[str]:
        daemon.change_one(revision)
        daemon.later(60)
        assert daemon.row("one", "a").revision == revision
        return told()

    daemon.warnings, daemon.changes = ("credentials are in x",), ("a=1 -> a",)
    assert push("r2") == ["relaxed: a=1 -> a", "warning: credentials are in x"]
    daemon.warnings = ("no driver", "credentials are in x")
    assert push("r3") == ["warning: no driver"]
    assert daemon.row("one", "a").warnings == daemon.warnings
    daemon.down = {"a"}  # what it had been warned of holds
    daemon.change_one("r4")
    daemon.later(60)
    daemon.down = set()
    daemon.later(60)
    assert daemon.row("one", "a").revision == "r4"
    assert told() == []


def test_many_servers_that_are_off_are_tried_together(daemon: SimulatedDaemon) -> None:
    """However much their tries are spread: each worker connects and reads the source."""
    daemon.jitter = random.Random(7).random
    off = tuple(f"server{number}" for number in range(20))
    daemon.down = set(off)
    daemon.scheduler.adopt(daemon.assignments(one=("a", *off), two=("a", *off)))
    daemon.later(120)
    tries = daemon.later(600)
    assert 15 < len(tries) < 30
    for server in off:
        assert len([task for task in tries if server in task.servers]) > 15


def test_rows_of_many_servers_are_written_in_one_transaction(daemon: SimulatedDaemon) -> None:
    """Each write of its own would wait for the disk, and the loop with it."""
    connection, alone, together = daemon.store._connection, list[str](), list[str]()
    assert connection is not None

    def trace(statement: str) -> None:
        if "'server'" in statement:
            (together if connection.in_transaction else alone).append(statement)

    connection.set_trace_callback(trace)
    many = tuple(f"server{number}" for number in range(20))
    daemon.down = set(many)
    daemon.scheduler.adopt(daemon.assignments(one=many, two=many))
    daemon.later(60)
    daemon.scheduler.sync("one")
    daemon.scheduler.look_again(["one"], many)
    daemon.scheduler.adopt(daemon.assignments(one=("a",)))
    assert together
    assert alone == []


def test_a_halted_server_waits_for_another_version_or_a_rescan(daemon: SimulatedDaemon) -> None:
    daemon.refused = {"b": REFUSED}
    daemon.change_one("r2")
    daemon.later(SETTLE + 1)
    assert (daemon.row("one", "b").state, daemon.row("one", "b").refused) == (HALTED, "r2")
    assert daemon.later(RESCAN / 2) == []
    assert Task(("one",), ("b",)) in daemon.later(RESCAN / 2)
    [line] = [line for line in daemon.lines if "it was changed there" in line]
    assert " one -> b: halted: it was changed there" in line, "and once, whatever is tried"
    daemon.refused = {}
    daemon.change_one("r3")
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.states() == [IN_STEP] * 4


def test_a_rollback_there_stays(daemon: SimulatedDaemon) -> None:
    """Nothing is pushed while the source stays; what the next try meets is `held`."""
    daemon.refused = {"b": RevisionHeld("it is held there")}
    assert daemon.later(3 * RESCAN) == [Task(("one", "two"))] * 3
    daemon.scheduler.sync("one")
    daemon.work()
    assert daemon.row("one", "b").state == HELD


def test_server_that_a_command_changed_is_looked_at_at_once(daemon: SimulatedDaemon) -> None:
    """As after `rollback`, which the daemon would meet at the next rescan, or a push by hand."""
    daemon.refused = {"b": RevisionHeld("it is held there")}
    daemon.scheduler.look_again(["one"], ["b", "a-server-of-nobody"])
    assert daemon.later(60) == [Task(("one",), ("b",))]
    assert daemon.states() == [IN_STEP, HELD, IN_STEP, IN_STEP]
    daemon.refused = {}
    daemon.scheduler.look_again(["one"], ["b"])
    assert daemon.later(60) == [Task(("one",), ("b",))]
    assert daemon.states() == [IN_STEP] * 4


def test_a_paused_environment_is_not_looked_at_until_it_is_resumed(
    daemon: SimulatedDaemon,
) -> None:
    daemon.scheduler.pause(["one"], paused=True)
    daemon.scheduler.look_again(["one"], ["b"])
    assert daemon.later(60) == []
    daemon.scheduler.pause(["one"], paused=False)
    assert daemon.later(60) == [Task(("one",), ("b",))]
    assert daemon.states() == [IN_STEP] * 4


def test_a_server_is_shown_as_pushing_only_once_it_is_worked_on(daemon: SimulatedDaemon) -> None:
    daemon.refused["b"] = REFUSED
    daemon.change_one("r2")
    daemon.later(60)
    halted = daemon.row("one", "b")
    assert halted.state == HALTED

    def shown() -> list[str]:
        rows = daemon.scheduler.sync_state.shown().servers
        return [rows["one", server].state for server in "ab"]

    daemon.world["one"] = "r3"
    worker = daemon.push_begun()
    assert shown() == [LAGGING, HALTED]
    assert daemon.scheduler.sync_state.shown().servers["one", "b"].error == halted.error
    for server, states in (("a", [PUSHING, HALTED]), ("b", [PUSHING, PUSHING])):
        worker.report(PushBegun("one", server))
        daemon.scheduler.read_worker(worker.fd)
        assert shown() == states
    daemon.refused.clear()
    daemon.finish(worker)
    assert shown() == [IN_STEP, IN_STEP]


def test_a_source_that_is_busy_says_nothing_of_servers(daemon: SimulatedDaemon) -> None:
    worker = daemon.push_begun()
    assert [daemon.row("one", s).state for s in "ab"] == [PUSHING, PUSHING]
    for server in "ab":
        worker.report_push(server, BUSY)
    daemon.end(worker)
    assert [daemon.row("one", s).state for s in "ab"] == [LAGGING, LAGGING]
    assert daemon.turn() == []
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.states() == [IN_STEP] * 4


def test_a_server_that_was_off_is_tried_again_whatever_became_of_a_try(
    daemon: SimulatedDaemon,
) -> None:
    """The source was not at rest when it was tried, or has left the inventory meanwhile."""
    daemon.down = {"b"}
    daemon.change_one("r2")
    daemon.later(SETTLE + 1)
    assert daemon.row("one", "b").state == RETRYING
    daemon.world["two"] = "r2"
    daemon.scheduler.hint(["two"])
    while not daemon.at_work():
        daemon.now += 1
        daemon.turn()
    for worker in daemon.at_work():
        for server in worker.task.servers:
            worker.report_push(server, BUSY)
        daemon.end(worker)
    daemon.down = set()
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


def test_a_clock_that_is_set_back_delays_nothing(daemon: SimulatedDaemon) -> None:
    """As at a boot with a wrong clock, before the network's time comes."""
    daemon.wall_ahead = 7 * 86400.0
    daemon.down = {"b"}
    daemon.change_one("r2")
    daemon.later(SETTLE + 30)
    assert daemon.row("one", "b").state == RETRYING
    daemon.wall_ahead = 0.0
    daemon.down = set()
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


def test_worker_that_always_breaks_down_is_started_ever_more_rarely(
    daemon: SimulatedDaemon,
) -> None:
    daemon.now += RESCAN
    daemon.turn()
    pauses, before = list[float](), daemon.now
    while len(pauses) < 8:
        for worker in daemon.at_work():
            worker.exit_status = -9
            if worker.task.is_scan:
                worker.report(SourceScanned("two", "r1"))
            daemon.end(worker)
            pauses.append(daemon.now - before)
            before = daemon.now
        daemon.turn()
        daemon.now = daemon.next_turn_seconds
        daemon.turn()
    assert pauses == [0.0, *(SETTLE * 2**number for number in range(5)), 300.0, 300.0]
    daemon.later(REFUSED_MAX_SECONDS)
    assert daemon.states() == [IN_STEP] * 4


def test_end_of_a_slow_worker_leaves_a_server_tried_again_as_it_is(
    daemon: SimulatedDaemon,
) -> None:
    slow = daemon.push_begun()
    slow.report_revision("r1")
    slow.report_push("b", DOWN)
    daemon.scheduler.read_worker(slow.fd)
    daemon.now += 3
    assert daemon.turn() == [Task(("one",), ("b",))]
    slow.report_push("a", revision="r1")
    daemon.end(slow)
    assert [daemon.row("one", s).state for s in "ab"] == [IN_STEP, PUSHING]
    daemon.finish(daemon.at_work()[-1])
    assert daemon.states() == [IN_STEP] * 4


def six(daemon: SimulatedDaemon) -> list[FakeProcess]:
    """Six environments go to two servers; four workers have pushed to the fast one, and wait
    for the other."""
    names = [f"e{number}" for number in range(6)]
    for name in names:
        daemon.checks[f"/p/envs/{name}"] = FakeInstallCheck(name)
        daemon.world[name] = "r1"
    daemon.scheduler.adopt(daemon.assignments(**dict.fromkeys(names, ("fast", "slow"))))
    for _ in names:
        daemon.turn()
        daemon.finish(daemon.at_work()[0])
    daemon.now += SETTLE + 1
    assert len(daemon.turn()) == PUSHING_MAX
    for worker in daemon.at_work():
        worker.report_revision("r1")
        daemon.report_push(worker, "fast")
        daemon.scheduler.read_worker(worker.fd)
    return daemon.at_work()


def test_a_slow_server_holds_back_no_other(daemon: SimulatedDaemon) -> None:
    waiting = six(daemon)
    daemon.world["e0"] = "r2"
    daemon.scheduler.hint(["e0"])
    assert daemon.turn() == []
    end = daemon.now + SLOW_SECONDS
    began = list[Task]()
    while daemon.now < end:
        daemon.now = daemon.next_turn_seconds
        began += daemon.turn()
    assert sorted(began, key=lambda task: task.environments) == [
        Task((name,), ("fast",)) for name in ("e0", "e4", "e5")
    ]
    for worker in daemon.at_work()[len(waiting) :]:
        daemon.finish(worker)
    assert daemon.turn() == []
    assert {daemon.row(f"e{number}", "fast").state for number in range(6)} == {IN_STEP}
    daemon.refused = {"slow": TransferFailed("it did not arrive")}
    daemon.finish(waiting[3])
    assert daemon.turn() == [Task(("e4",), ("slow",))]
    daemon.now += 60  # what is to be tried again there wakes nobody while it cannot be
    assert (daemon.row("e3", "slow").state, daemon.turn()) == (RETRYING, [])
    assert daemon.next_turn_seconds > daemon.now + 1
    daemon.refused = {}
    daemon.later(600)
    assert {row.state for row in daemon.store.state.servers.values()} == {IN_STEP}


def test_a_scan_waits_for_no_push(daemon: SimulatedDaemon) -> None:
    six(daemon)
    daemon.now += RESCAN
    assert any(task.is_scan for task in daemon.turn())


def test_a_first_scan_that_hangs_holds_back_no_other_source(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """As where one environment has a file on a server of files that is gone."""
    daemon.scheduler.look_again(["two"], ["b"])
    again = start_daemon()
    end = again.now + SLOW_SECONDS + 60
    while again.now < end:
        again.turn()
        others = [worker for worker in again.at_work() if worker.task.environments != ("one",)]
        for worker in others:
            again.finish(worker)
        again.now += 1 if others else again.next_turn_seconds - again.now
    assert again.row("two", "b").state == IN_STEP
    assert [worker.task.environments for worker in again.at_work()] == [("one",)]


def test_number_of_workers_is_limited(
    daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_limits, "WORKERS_MAX", PUSHING_MAX + 1)
    six(daemon)
    daemon.now += SLOW_SECONDS
    assert len(daemon.turn()) == 1
    daemon.now += SLOW_SECONDS
    assert daemon.turn() == []
