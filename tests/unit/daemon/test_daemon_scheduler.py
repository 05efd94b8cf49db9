"""What is scanned and pushed when, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsync.daemon import scheduler, worker_pool
from envsync.daemon.log import Log
from envsync.daemon.request_handler import RequestHandler
from envsync.daemon.rows import HALTED, HELD, IN_STEP, LAGGING, PUSHING, RETRYING
from envsync.daemon.tasks import START, START_CHANGED, Task
from envsync.daemon.tracked_source import REFUSED_MAX_SECONDS
from envsync.daemon.triggers import Observation
from envsync.daemon.worker_messages import DigestTaken
from envsync.daemon.worker_pool import (
    END_MAX_SECONDS,
    PUSHING_MAX,
    SILENCE_MAX_SECONDS,
    SLOW_SECONDS,
    START_AGAIN_SECONDS,
)
from envsync.errors import (
    NotFound,
    PreflightRefused,
    RevisionHeld,
    SourceRefused,
    TargetDrifted,
    TransferFailed,
)
from tests.unit.daemon.simulation import (
    DOWN,
    RESCAN,
    SETTLE,
    FakeInstallCheck,
    FakeProcess,
    SimulatedDaemon,
    StartDaemon,
    check_of,
)

REFUSED = TargetDrifted("it was changed there", hint="x")
BUSY = SourceRefused("not at rest: pip is at it")
GONE = NotFound("there is no environment")


def test_the_first_start_scans_once_and_pushes_what_has_settled(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    assert daemon.work() == [Task(("one", "two"))]
    assert daemon.later(SETTLE - 0.1) == []
    tasks = daemon.later(1)
    assert tasks == [Task(("one",), ("a", "b")), Task(("two",), ("a", "b"))]


def test_one_push_for_many_events(daemon: SimulatedDaemon) -> None:
    daemon.world["one"] = "r2"
    for _ in range(20):
        daemon.scheduler.hint(["one", "unknown"])
        assert daemon.later(1) == []
    assert daemon.later(SETTLE) == [Task(("one",), ("a", "b"))]
    assert daemon.later(RESCAN / 2) == []
    assert [daemon.row("one", s).revision for s in "ab"] == ["r2", "r2"]


def test_an_installer_is_waited_for(daemon: SimulatedDaemon) -> None:
    check_of(daemon, "one").seen = Observation(busy="pip (process 7)")
    daemon.scheduler.hint(["one"])
    assert daemon.later(120) == []
    assert daemon.scheduler.activity("one").busy == "pip (process 7)"
    check_of(daemon, "one").seen = Observation()
    assert daemon.later(SETTLE - 1) == []
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]


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
    daemon.end(daemon.workers[-1])
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 0.1)
    daemon.scheduler.adopt(daemon.assignments(one=("b", "c")))
    assert daemon.later(1) == [Task(("one",), ("b", "c"))]
    pushes = [worker for worker in daemon.workers if not worker.task.makes_spare]
    assert [worker.is_told_to_end for worker in pushes[-2:]] == [True, False]


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


def test_a_rescan_is_spared_where_nothing_changed(daemon: SimulatedDaemon) -> None:
    daemon.later(RESCAN)
    [before] = [
        glance for glance in daemon.workers[-1].task.digest_checks if glance.environment == "one"
    ]
    assert (before.path, before.digest) == ("/p/envs/one", "digest r1")
    daemon.store.put_source(replace(daemon.store.contents.sources["one"], error=GONE.to_json()))
    daemon.now += RESCAN
    daemon.turn()
    assert [glance.digest for glance in daemon.workers[-1].task.digest_checks] == ["", "digest r1"]


def test_a_broken_install_is_told_and_not_pushed_until_it_is_mended(
    daemon: SimulatedDaemon,
) -> None:
    check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    assert daemon.later(300) == []
    error = daemon.store.contents.sources["one"].error
    assert error is not None
    assert "an installer left ~umpy" in error["message"]
    assert len([line for line in daemon.lines if "~umpy" in line]) == 1
    check_of(daemon, "one").seen = Observation()
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.store.contents.sources["one"].error is None


def test_a_rescan_does_not_push_what_is_broken(daemon: SimulatedDaemon) -> None:
    check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    assert daemon.later(2 * RESCAN + 10) == [Task(("one", "two"))] * 2


def test_a_restart_does_not_push_what_is_broken(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """Nor does a scan of it, or one that failed, take back what was found."""
    signs = ("half-1.0 is installed in part: it has no INSTALLER",)
    check_of(daemon, "one").seen = Observation(unfinished=signs)
    daemon.world["one"] = "half"
    daemon.scheduler.hint(["one"])
    daemon.later(RESCAN + 10)
    daemon.scheduler.sync_state.source_failed("one", BUSY)
    row = daemon.store.contents.sources["one"]
    assert (row.revision, row.unfinished, (row.error or {})["code"]) == (
        "half",
        signs,
        "unfinished",
    )
    again = start_daemon(*signs)
    again.world["one"] = "half"
    assert again.later(RESCAN + 60) == [Task(("one", "two"))] * 2
    check_of(again, "one").seen = Observation()
    assert again.later(60) == [Task(("one",), ("a", "b"))]
    assert again.store.contents.sources["one"].error is None


def test_an_install_that_ended_with_the_daemon_is_checked_before_anything_is_pushed(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """Also where a scan has found meanwhile what it has left."""
    check_of(daemon, "one").seen = Observation(busy="pip (process 7)")
    daemon.world["one"] = "half"
    daemon.scheduler.hint(["one"])
    daemon.scheduler.sync_state.source_scanned("one", "half")
    assert daemon.row("one", "a").state == LAGGING
    signs = ("half is in no installed distribution",)
    again = start_daemon(*signs)
    again.world["one"] = "half"
    assert again.later(RESCAN + 60) == [Task(("one", "two"))] * 2
    error = again.store.contents.sources["one"].error
    assert error is not None
    assert error["code"] == "unfinished"
    check_of(again, "one").seen = Observation()
    assert again.later(60) == [Task(("one",), ("a", "b"))]
    assert not again.store.contents.sources["one"].is_unchecked


def test_the_packages_that_a_check_accepted_are_known_after_a_restart(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """Of what stands at that path: at another one, it is a first look."""
    assert check_of(daemon, "one").known is None
    check_of(daemon, "one").there = ("x/numpy",)
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 1)
    restarted = start_daemon()
    assert check_of(restarted, "one").known == ()
    daemon.later(1)
    restarted = start_daemon()
    assert check_of(restarted, "one").known == ("x/numpy",)
    restarted.checks["/q/one"] = check_of(restarted, "two")
    restarted.checks["/q/one"].there = ("y/numpy",)
    restarted.edit(path="/q/one")
    assert restarted.checks["/q/one"].known is None
    assert restarted.store.contents.sources["one"].packages == ("y/numpy",)


def test_a_person_may_have_it_pushed_as_it_is(daemon: SimulatedDaemon) -> None:
    check_of(daemon, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.scheduler.hint(["one"])
    daemon.later(60)
    daemon.scheduler.sync("one")
    assert daemon.work() == [Task(("one",), ("a", "b"))]
    daemon.scheduler.hint(["one"])  # and is not asked again
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]


def test_what_was_accepted_stays_so_while_an_installer_is_at_work(daemon: SimulatedDaemon) -> None:
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
    assert daemon.store.contents.sources["one"].tolerated == ()


def test_a_server_that_is_off_is_tried_by_one_environment_and_gets_the_newest(
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
    daemon.down = set()
    daemon.later(40)
    assert daemon.states() == [IN_STEP] * 4
    assert daemon.row("two", "b").revision == "r5"
    assert daemon.later(60) == []


def test_a_halted_server_waits_for_another_version_or_a_rescan(daemon: SimulatedDaemon) -> None:
    daemon.refused = {"b": REFUSED}
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE + 1)
    assert (daemon.row("one", "b").state, daemon.row("one", "b").refused) == (HALTED, "r2")
    assert daemon.later(RESCAN / 2) == []
    assert Task(("one",), ("b",)) in daemon.later(RESCAN / 2)
    daemon.refused = {}
    daemon.world["one"] = "r3"
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.states() == [IN_STEP] * 4


def test_a_rollback_there_stays(daemon: SimulatedDaemon) -> None:
    """Nothing is pushed while the source stays; what the next try meets is `held`."""
    daemon.refused = {"b": RevisionHeld("it is held there")}
    assert daemon.later(3 * RESCAN) == [Task(("one", "two"))] * 3
    daemon.scheduler.sync("one")
    daemon.work()
    assert daemon.row("one", "b").state == HELD


def test_a_source_that_is_busy_says_nothing_of_servers(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    assert daemon.turn() == [Task(("one",), ("a", "b"))]
    assert [daemon.row("one", s).state for s in "ab"] == [PUSHING, PUSHING]
    worker = daemon.at_work()[-1]
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
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
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
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE + 30)
    assert daemon.row("one", "b").state == RETRYING
    daemon.wall_ahead = 0.0
    daemon.down = set()
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


def test_an_environment_that_is_gone_and_comes_back(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    daemon.turn()
    worker = daemon.at_work()[-1]
    worker.report_failure(GONE)
    daemon.end(worker)
    assert daemon.later(RESCAN / 2) == []
    error = daemon.store.contents.sources["one"].error
    assert error is not None
    assert error["code"] == "not-found"
    daemon.scheduler.hint(["one"])
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.states() == [IN_STEP] * 4


def test_a_worker_that_dies_is_not_started_again_at_once(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    daemon.turn()
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
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    daemon.turn()
    worker = daemon.at_work()[-1]
    worker.report_push("a", revision="r1")
    worker.report_document({"environment": "one", "report": {"server": "b", "error": None}})
    daemon.end(worker)
    assert [daemon.row("one", s).state for s in "ab"] == [IN_STEP, RETRYING]
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


@pytest.mark.parametrize("digest_checks", [True, False])
def test_a_scan_that_breaks_down_is_told_and_made_up_for(
    daemon: SimulatedDaemon, digest_checks: bool
) -> None:
    """Also one whose worker had found that there is something to scan."""
    daemon.world["one"] = "r2"
    daemon.now += RESCAN
    daemon.turn()
    [worker] = daemon.at_work()
    worker.exit_status, worker.stderr_tail = -9, ""
    if digest_checks:
        worker.report(DigestTaken("one", "another", unchanged=False))
    worker.report(DigestTaken("two", "digest r1", unchanged=True))
    daemon.end(worker)
    [line] = [line for line in daemon.lines if "ended unexpectedly" in line]
    assert "one: the process that scans ended unexpectedly (signal 9)" in line
    assert daemon.store.contents.sources["two"].error is None
    assert daemon.later(SETTLE + 1) == [Task(("one",), ("a", "b"))]
    assert daemon.states() == [IN_STEP] * 4
    assert daemon.store.contents.sources["one"].error is None


def test_what_breaks_down_every_time_is_asked_again_ever_later(daemon: SimulatedDaemon) -> None:
    daemon.now += RESCAN
    daemon.turn()
    pauses, before = list[float](), daemon.now
    while len(pauses) < 8:
        for worker in daemon.at_work():
            worker.exit_status = -9
            if worker.task.is_scan:
                worker.report(DigestTaken("two", "digest r1", unchanged=True))
            daemon.end(worker)
            pauses.append(daemon.now - before)
            before = daemon.now
        daemon.now += daemon.scheduler.next_seconds()
        daemon.turn()
    assert pauses == [0.0, *(SETTLE * 2**number for number in range(5)), 300.0, 300.0]
    daemon.later(REFUSED_MAX_SECONDS)
    assert daemon.states() == [IN_STEP] * 4


def test_a_worker_that_hangs_is_killed_in_the_end(daemon: SimulatedDaemon) -> None:
    """One that says something from time to time may take as long as it likes."""
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    daemon.turn()
    worker = daemon.at_work()[-1]
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


def test_a_slow_server_s_end_says_nothing_of_one_that_is_tried_again_meanwhile(
    daemon: SimulatedDaemon,
) -> None:
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    daemon.turn()
    slow = daemon.at_work()[-1]
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
        daemon.now += daemon.scheduler.next_seconds()
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
    assert daemon.scheduler.next_seconds() > 1
    daemon.refused = {}
    daemon.later(600)
    assert {row.state for row in daemon.store.contents.servers.values()} == {IN_STEP}


def test_a_scan_waits_for_no_push(daemon: SimulatedDaemon) -> None:
    six(daemon)
    daemon.now += RESCAN
    assert any(task.is_scan for task in daemon.turn())


def test_there_is_an_end_to_the_workers(
    daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "WORKERS_MAX", PUSHING_MAX + 1)
    six(daemon)
    daemon.now += SLOW_SECONDS
    assert len(daemon.turn()) == 1
    daemon.now += SLOW_SECONDS
    assert daemon.turn() == []


def test_no_process_for_a_while(daemon: SimulatedDaemon) -> None:
    daemon.no_process = True
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    assert daemon.later(60) == []
    assert 4 < len([line for line in daemon.lines if "cannot start a process" in line]) < 8
    daemon.no_process = False
    assert daemon.later(START_AGAIN_SECONDS) == [Task(("one",), ("a", "b"))]


def test_what_changes_during_a_push_is_pushed_after_it(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    daemon.turn()
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    assert daemon.turn() == [Task(("one",), is_settled=True)]  # nobody is free to take it
    for worker in daemon.at_work()[::-1]:
        daemon.world["one"] = "r1" if worker.task.is_push else "r2"
        daemon.finish(worker)
    daemon.world["one"] = "r2"
    daemon.later(1)
    assert [daemon.row("one", s).revision for s in "ab"] == ["r2", "r2"]


def test_pause_and_resume(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.pause(["one"], paused=True)
    daemon.world = {"one": "r2", "two": "r2"}
    daemon.scheduler.hint(["one", "two"])
    assert daemon.later(60) == [Task(("two",), ("a", "b"))]
    daemon.scheduler.pause(["one"], paused=False)
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]


def _under_way(daemon: SimulatedDaemon) -> FakeProcess:
    """A push of `one` to both."""
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    assert daemon.turn() == [Task(("one",), ("a", "b"))]
    return daemon.at_work()[-1]


def test_a_pause_ends_what_is_under_way(daemon: SimulatedDaemon) -> None:
    """What was pushed by then stays so; the rest lags, and is pushed after the pause."""
    worker = _under_way(daemon)
    worker.report_revision("r2")
    worker.report_push("a", revision="r2")
    daemon.scheduler.read_worker(worker.fd)
    daemon.scheduler.pause(["two"], paused=True)
    assert not worker.is_told_to_end
    daemon.scheduler.pause(["one"], paused=True)
    assert worker.is_told_to_end
    assert daemon.row("one", "b").state == PUSHING, "until it has ended"
    worker.exit_status, worker.stderr_tail = 1, "envsync: stopped"
    daemon.end(worker)
    assert [daemon.row("one", server).state for server in "ab"] == [IN_STEP, LAGGING]
    assert daemon.row("one", "b").error is None
    assert not any("ended unexpectedly" in line for line in daemon.lines)
    assert daemon.later(60) == []
    daemon.scheduler.pause(["one"], paused=False)
    assert daemon.later(1) == [Task(("one",), ("b",))]
    assert daemon.states()[:2] == [IN_STEP] * 2


def test_a_pause_before_a_push_has_said_a_word(daemon: SimulatedDaemon) -> None:
    """It was to find out what the source is, whose last scan had failed; and still is."""
    daemon.scheduler.sync_state.source_failed("one", BUSY)
    worker = _under_way(daemon)
    daemon.scheduler.pause(["one"], paused=True)
    daemon.end(worker)
    assert daemon.later(60) == []
    daemon.scheduler.pause(["one"], paused=False)
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]
    assert daemon.store.contents.sources["one"].error is None


def test_a_pause_dismisses_who_is_ready(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE - 0.1)
    ready = daemon.workers[-1]
    assert (ready.task.awaits_start, ready.is_told_to_end) == (True, False)
    daemon.scheduler.pause(["one"], paused=True)
    assert ready.is_told_to_end


@pytest.mark.parametrize("is_reported", [True, False])
def test_a_push_ends_when_a_server_is_taken_from_it(
    daemon: SimulatedDaemon, is_reported: bool
) -> None:
    """As long as that is still to be pushed to; the others are pushed to again."""
    worker = _under_way(daemon)
    worker.report_revision("r2")
    if is_reported:
        worker.report_push("b", revision="r2")
    daemon.scheduler.read_worker(worker.fd)
    daemon.scheduler.adopt(daemon.assignments(one=("a",), two=("a", "b")))
    assert worker.is_told_to_end is not is_reported
    if not is_reported:
        daemon.end(worker)
        assert daemon.row("one", "a").state == LAGGING
        assert daemon.turn() == [Task(("one",), ("a",))]


def test_a_push_ends_when_its_environment_is_kept_no_longer(daemon: SimulatedDaemon) -> None:
    worker = _under_way(daemon)
    daemon.scheduler.adopt(daemon.assignments(two=("a", "b")))
    assert worker.is_told_to_end
    daemon.end(worker)
    assert daemon.later(60) == []


def test_a_pause_holds_also_when_all_is_asked_for(daemon: SimulatedDaemon) -> None:
    handler = RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), dict)
    daemon.scheduler.pause(["one"], paused=True)
    for named in (["one"], ["two", "one"]):
        with pytest.raises(PreflightRefused, match="is paused: nothing was requested") as raised:
            handler.handle({"verb": "sync", "environments": named})
        assert raised.value.hint == "envsync daemon resume one"
    assert handler.handle({"verb": "sync", "environments": []}) == {"environments": ["two"]}
    assert daemon.work() == [Task(("two",), ("a", "b"))]
    daemon.scheduler.pause(["two"], paused=True)
    with pytest.raises(PreflightRefused, match="one, two are paused"):
        handler.handle({"verb": "sync"})


def test_servers_and_environments_come_and_go_with_the_inventory(daemon: SimulatedDaemon) -> None:
    daemon.world["three"] = "r1"
    daemon.scheduler.adopt(daemon.assignments(one=("b", "c"), three=("a",)))
    daemon.later(SETTLE + 1)
    assert sorted(daemon.store.contents.servers) == [("one", "b"), ("one", "c"), ("three", "a")]
    assert all(row.state == IN_STEP for row in daemon.store.contents.servers.values())
    assert "two" not in daemon.store.contents.sources
    assert daemon.later(60) == []


def test_a_server_whose_name_leads_elsewhere_is_pushed_to(daemon: SimulatedDaemon) -> None:
    daemon.edit(places={"a": "a /p", "b": "b /p"})  # known by a daemon that did not note it
    assert daemon.work() == []
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    assert daemon.work() == [Task(("one",), ("b",))]
    assert (daemon.row("one", "b").state, daemon.row("one", "b").place) == (IN_STEP, "other /p")
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    assert daemon.work() == []


@pytest.mark.parametrize("is_reported", [True, False])
def test_what_was_under_way_to_the_old_place_says_nothing_of_the_new_one(
    daemon: SimulatedDaemon, is_reported: bool
) -> None:
    daemon.edit(places={"a": "a /p", "b": "b /p"})
    daemon.world["one"] = "r2"
    daemon.scheduler.hint(["one"])
    daemon.now += SETTLE
    daemon.turn()
    [old] = daemon.at_work()
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    assert daemon.turn() == [Task(("one",), ("b",))]
    if is_reported:
        daemon.finish(old)
    else:
        daemon.end(old)
    assert daemon.row("one", "b").state == PUSHING
    assert daemon.row("one", "a").state == (IN_STEP if is_reported else RETRYING)
    daemon.later(60)
    assert daemon.states() == [IN_STEP] * 4


def test_other_local_paths_are_another_version(daemon: SimulatedDaemon) -> None:
    daemon.world["one"] = "without logs"
    daemon.edit(local=("logs/**",))
    assert daemon.later(SETTLE + 1) == [Task(("one",)), Task(("one",), ("a", "b"))]
    daemon.edit(local=("logs/**",))
    assert daemon.later(60) == []


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


def test_a_restart_pushes_only_what_changed_meanwhile(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    again = start_daemon()
    assert again.later(60) == [Task(("one", "two"))]
    third = start_daemon()
    third.world["two"] = "r2"
    assert third.later(60) == [Task(("one", "two")), Task(("two",), ("a", "b"))]


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
            daemon.world["one"] = f"change {number}"
            daemon.scheduler.hint(["one"])
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
    for name, server in daemon.store.contents.servers:
        assert daemon.row(name, server).revision == daemon.world[name]
    assert daemon.work() == []
    assert daemon.scheduler.next_seconds() > RESCAN / 2  # nothing wakes it for nothing
