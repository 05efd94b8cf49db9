"""Worker processes: made ready ahead, replaced, ended, and started again when they fail."""

from __future__ import annotations

from envsync.daemon import scheduler
from envsync.daemon.rows import IN_STEP, RETRYING
from envsync.daemon.tasks import START, START_CHANGED, Task
from envsync.daemon.triggers import Observation
from envsync.daemon.worker_limits import END_MAX_SECONDS, SILENCE_MAX_SECONDS
from envsync.daemon.worker_messages import SourceScanned
from envsync.daemon.worker_pool import START_AGAIN_SECONDS
from tests.unit.daemon.simulation import BUSY, RESCAN, SETTLE, SimulatedDaemon, check_of


def test_a_worker_is_ready_when_the_source_has_settled(daemon: SimulatedDaemon) -> None:
    """It is started; one that nobody needs any more is dismissed."""
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 0.1)
    ready = daemon.workers[-1]
    assert (ready.task.awaits_start, ready.sent) == (True, [])
    started = len(daemon.workers)
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]
    assert (ready.sent, len(daemon.workers)) == ([START], started)

    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 0.1)
    daemon.scheduler.hint(["one"])  # after the worker has looked
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.workers[-1].sent == [START_CHANGED]

    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 0.1)
    check_of(daemon, "one").seen = Observation(busy="pip (process 7)")
    assert daemon.later(60) == []
    assert (daemon.workers[-1].sent, daemon.workers[-1].is_told_to_end) == ([], True)


def test_a_ready_worker_that_died_or_has_other_servers_is_replaced(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 0.1)
    daemon.workers[-1].report_failure(BUSY)
    daemon.end(daemon.workers[-1])
    assert daemon.store.state.sources["one"].error is None, "nobody had asked it yet"
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 0.1)
    daemon.scheduler.adopt(daemon.assignments(one=("b", "c")))
    assert daemon.later(1) == [Task(("one",), ("b", "c"))]
    pushes = [worker for worker in daemon.workers if not worker.task.makes_spare]
    assert [worker.is_told_to_end for worker in pushes[-2:]] == [True, False]


def test_a_server_that_is_off_does_not_cost_the_ready_worker(daemon: SimulatedDaemon) -> None:
    """Its tries come at their own pace, whatever changes meanwhile."""
    daemon.down = {"b"}
    daemon.change_one("r2")
    daemon.later(120)
    for number in range(20):
        daemon.change_one(f"change {number}")
        daemon.later(SETTLE + number)
        assert daemon.row("one", "a").revision == f"change {number}"
        assert not any(worker.task.awaits_start and not worker.sent for worker in daemon.workers)
    daemon.down = set()
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


def test_a_ready_worker_that_does_not_end_is_killed(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE - scheduler.READY_SECONDS
    daemon.turn()
    worker = daemon.workers[-1]
    check_of(daemon, "one").seen = Observation(busy="pip (process 7)")
    daemon.now += scheduler.READY_SECONDS
    daemon.turn()
    daemon.turn()
    assert (worker.task.awaits_start, worker.is_told_to_end, worker.is_killed) == (
        True,
        True,
        False,
    )
    daemon.now += END_MAX_SECONDS
    daemon.turn()
    assert worker.is_killed
    daemon.end(worker)


def test_a_worker_that_dies_is_not_started_again_at_once(daemon: SimulatedDaemon) -> None:
    daemon.push_begun()
    for number in range(8):
        worker = daemon.at_work()[-1]
        worker.exit_status, worker.stderr_tail = -9, "killed"
        worker.report_revision("r1")
        daemon.end(worker)
        assert daemon.turn() == []
        row = daemon.row("one", "a")
        assert (row.state, row.attempts) == (RETRYING, number + 1)
        assert row.next_try_seconds is not None
        daemon.now = row.next_try_seconds
        assert daemon.turn() == [Task(("one",), ("a", "b"))]
    assert "signal 9" in str(row.error)


def test_a_report_that_is_none_is_passed_over(daemon: SimulatedDaemon) -> None:
    """Nothing is believed of it, and the server is tried again."""
    worker = daemon.push_begun()
    worker.report_push("a", revision="r1")
    worker.report_document({"environment": "one", "report": {"server": "b", "error": None}})
    worker.report(SourceScanned("two", "of another environment than its own"))
    daemon.end(worker)
    assert daemon.store.state.sources["two"].revision == "r1"
    assert [daemon.row("one", s).state for s in "ab"] == [IN_STEP, RETRYING]
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


def test_a_scan_that_breaks_down_is_told_and_made_up_for(daemon: SimulatedDaemon) -> None:
    daemon.world["one"] = "r2"
    daemon.now += RESCAN
    daemon.turn()
    [worker] = daemon.at_work()
    worker.exit_status, worker.stderr_tail = -9, ""
    worker.report(SourceScanned("two", "r1"))
    daemon.end(worker)
    [line] = [line for line in daemon.lines if "ended unexpectedly" in line]
    assert "one: the process that scans ended unexpectedly (signal 9)" in line
    assert daemon.store.state.sources["two"].error is None
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.states() == [IN_STEP] * 4
    assert daemon.store.state.sources["one"].error is None


def test_a_worker_that_hangs_is_killed_in_the_end(daemon: SimulatedDaemon) -> None:
    """One that says something from time to time may take as long as it likes."""
    worker = daemon.push_begun()
    for server in "ab":
        daemon.now += SILENCE_MAX_SECONDS - 1
        daemon.turn()
        assert not worker.is_killed
        if server == "a":
            worker.report_push("a", revision="r1")
            daemon.scheduler.read_worker(worker.fd)
    daemon.now += 2
    daemon.turn()
    assert worker.is_killed
    daemon.end(worker)
    assert [daemon.row("one", server).state for server in "ab"] == [IN_STEP, RETRYING]
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


def test_no_process_for_a_while(daemon: SimulatedDaemon) -> None:
    daemon.no_process = True
    daemon.change_one("r2")
    assert daemon.later(60) == []
    assert 4 < len([line for line in daemon.lines if "cannot start a process" in line]) < 8
    daemon.no_process = False
    assert daemon.later(START_AGAIN_SECONDS) == [Task(("one",), ("a", "b"))]


def test_a_worker_that_is_ready_does_not_go_by_the_old_inventory(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE - scheduler.READY_SECONDS
    daemon.turn()
    ready = daemon.workers[-1]
    daemon.edit()
    assert (ready.task.awaits_start, ready.is_told_to_end) == (True, True)
    daemon.now += scheduler.READY_SECONDS
    assert daemon.turn() == [Task(("one",), ("a", "b"))]
    assert ready.sent == []
