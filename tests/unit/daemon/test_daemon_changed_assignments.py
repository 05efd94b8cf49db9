"""Pauses and changes of the inventory: what is under way then ends and is not counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envsync.daemon.log import Log
from envsync.daemon.request_handler import RequestHandler
from envsync.daemon.rows import IN_STEP, LAGGING, PUSHING, RETRYING
from envsync.daemon.status import DaemonFacts, document, sentence
from envsync.daemon.tasks import Task
from envsync.daemon.triggers import Observation
from envsync.daemon.worker_limits import SLOW_SECONDS
from envsync.errors import NotFound, PreflightRefused
from tests.unit.daemon.simulation import (
    BUSY,
    RESCAN,
    SETTLE,
    FakeInstallCheck,
    FakeProcess,
    SimulatedDaemon,
    StartDaemon,
    check_of,
)


def test_pause_and_resume(daemon: SimulatedDaemon) -> None:
    daemon.scheduler.pause(["one"], paused=True)
    daemon.world = {"one": "r2", "two": "r2"}
    daemon.scheduler.hint(["one", "two"])
    scan = Task(("one",), is_settled=True)
    assert daemon.later(60) == [Task(("two",), ("a", "b")), scan]
    assert daemon.states() == [LAGGING, LAGGING, IN_STEP, IN_STEP]
    daemon.scheduler.pause(["one"], paused=False)
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]


def _under_way(daemon: SimulatedDaemon) -> FakeProcess:
    """A push of `one` to both."""
    daemon.world["one"] = "r2"
    return daemon.push_begun()


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


def test_a_push_by_hand_counts_though_the_worker_that_a_pause_ends_is_still_there(
    daemon: SimulatedDaemon,
) -> None:
    worker = _under_way(daemon)
    daemon.scheduler.pause(["one"], paused=True)
    daemon.scheduler.look_again(["one"], ["b"], {"b": "r2"})
    daemon.end(worker)
    assert [daemon.row("one", server).state for server in "ab"] == [LAGGING, IN_STEP]


def test_a_pause_before_a_push_has_said_a_word(daemon: SimulatedDaemon) -> None:
    """It was to find out what the source is, whose last scan had failed; and still is."""
    daemon.scheduler.sources["one"].failed(BUSY)
    worker = _under_way(daemon)
    daemon.scheduler.pause(["one"], paused=True)
    daemon.end(worker)
    assert daemon.later(60) == [Task(("one",), is_settled=True)]
    daemon.scheduler.pause(["one"], paused=False)
    assert daemon.later(1) == [Task(("one",), ("a", "b"))]
    assert daemon.store.state.sources["one"].error is None


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
    answer = handler.handle({"verb": "sync", "environments": []})
    assert answer == {"environments": ["two"], "accepted": []}
    assert daemon.work() == [Task(("two",), ("a", "b"))]
    daemon.scheduler.pause(["two"], paused=True)
    with pytest.raises(PreflightRefused, match="one, two are paused"):
        handler.handle({"verb": "sync"})


def test_a_pause_that_cannot_be_saved_is_told(daemon: SimulatedDaemon) -> None:
    log, trouble = Log(daemon.lines.append, {}), "the disk is full"
    handler = RequestHandler(daemon.scheduler, log, lambda: {"daemon": {"trouble": trouble}})
    answer = handler.handle({"verb": "pause", "environments": ["one"]})
    assert answer == {"environments": ["one"], "trouble": trouble}


def test_only_what_was_paused_is_logged_as_resumed_and_once(daemon: SimulatedDaemon) -> None:
    handler = RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), dict)
    daemon.scheduler.pause(["one"], paused=True)
    daemon.lines.clear()
    answer = handler.handle({"verb": "resume", "environments": ["one", "two", "one"]})
    assert answer == {"environments": ["one", "two"]}
    [line] = daemon.lines
    assert line.endswith("one: resumed")


def test_look_request_without_known_servers_starts_nothing(daemon: SimulatedDaemon) -> None:
    handler = RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), dict)
    daemon.lines.clear()
    for servers in (None, "b", [], [7, "c"]):
        look = {"verb": "look", "environments": ["one"], "servers": servers}
        assert handler.handle(look) == {"environments": []}
        assert (daemon.work(), daemon.lines) == ([], [])
    look = {"verb": "look", "environments": ["one"], "servers": ["b", "c"]}
    assert handler.handle(look) == {"environments": ["one"]}
    assert daemon.work() == [Task(("one",), ("b",))]


def test_a_command_for_a_whole_server_concerns_all_that_is_pushed_there(
    daemon: SimulatedDaemon,
) -> None:
    handler = RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), dict)
    daemon.scheduler.adopt(daemon.assignments(one=("a", "b"), two=("a",)))
    assert handler.handle({"verb": "look", "servers": ["b"]}) == {"environments": ["one"]}
    assert daemon.work() == [Task(("one",), ("b",))]


@pytest.mark.parametrize("verb", ["pause", "resume", "sync"])
def test_request_for_an_environment_that_is_not_watched_is_refused(
    daemon: SimulatedDaemon, verb: str
) -> None:
    """One that comes later would not be paused."""
    daemon.scheduler.adopt(replace(daemon.assignments(), by_name={}))
    handler = RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), dict)
    with pytest.raises(NotFound, match="the daemon watches no environment") as raised:
        handler.handle({"verb": verb, "environments": []})
    assert "the daemon of its `source:`" in raised.value.hint


@pytest.mark.parametrize("verb", ["pause", "resume", "sync"])
def test_request_for_an_environment_of_another_machine_is_sent_there(
    daemon: SimulatedDaemon, verb: str
) -> None:
    """The inventory is the same on all, so nobody is told to make this one the source."""
    handler = RequestHandler(daemon.scheduler, Log(daemon.lines.append, {}), dict)
    found = replace(daemon.assignments(), elsewhere={"theirs": "server2"})
    daemon.scheduler.adopt(found)
    with pytest.raises(NotFound, match="theirs is kept in step from server2, not") as raised:
        handler.handle({"verb": verb, "environments": ["one", "theirs"]})
    assert raised.value.hint == "run the same command on server2"
    daemon.scheduler.adopt(replace(found, by_name={}))
    with pytest.raises(NotFound, match="the daemon watches no environment") as raised:
        handler.handle({"verb": verb, "environments": []})
    assert raised.value.hint == "run the same command on server2"


def test_servers_and_environments_come_and_go_with_the_inventory(daemon: SimulatedDaemon) -> None:
    daemon.world["three"] = "r1"
    daemon.scheduler.adopt(daemon.assignments(one=("b", "c"), three=("a",)))
    daemon.later(SETTLE + 1)
    assert sorted(daemon.store.state.servers) == [("one", "b"), ("one", "c"), ("three", "a")]
    assert all(row.state == IN_STEP for row in daemon.store.state.servers.values())
    assert sorted(daemon.store.state.followed) == ["one", "three"]
    assert daemon.later(60) == []


def test_environment_that_was_not_in_the_inventory_for_a_while_is_known_when_it_is_back(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    """It is still paused, and what was half done in it still is."""
    half = "half is in no installed distribution"
    daemon.scheduler.hint(["one"])
    daemon.later(SETTLE + 1)
    accepted_seconds = check_of(daemon, "one").accepted_seconds
    check_of(daemon, "one").seen = Observation(unfinished=(half,))
    daemon.change_one("half")
    daemon.scheduler.pause(["two"], paused=True)
    daemon.later(60)
    for is_restarted in (False, True):
        daemon.scheduler.adopt(replace(daemon.assignments(), by_name={}))
        state = daemon.store.state
        assert document(state, daemon.scheduler.activities, DaemonFacts())["environments"] == []
        assert sentence(state, {}, None) == "0 environments, 0 of 0 copies in step"
        again = start_daemon(half) if is_restarted else daemon
        again.world = {"one": "half", "two": "r2"}
        again.scheduler.adopt(again.assignments())
        assert not any(task.servers for task in again.later(RESCAN + 60))
        known = check_of(again, "one").known
        assert known is not None
        assert known.accepted_seconds == accepted_seconds
        assert again.store.state.followed["one"].is_unfinished
        assert again.store.state.followed["two"].paused
        assert again.states() == [LAGGING] * 4


def test_a_server_that_is_off_is_forgotten_where_its_name_leads_elsewhere(
    daemon: SimulatedDaemon,
) -> None:
    daemon.down = {"b"}
    daemon.change_one("r2")
    daemon.later(120)
    while not daemon.later(1):
        pass
    daemon.down = set()
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    assert daemon.work() == [Task(("one",), ("b",))], "at once, and not when it was to be tried"


def test_a_server_whose_name_leads_elsewhere_is_pushed_to(daemon: SimulatedDaemon) -> None:
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    assert daemon.work() == [Task(("one",), ("b",))]
    assert (daemon.row("one", "b").state, daemon.row("one", "b").place) == (IN_STEP, "other /p")
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    assert daemon.work() == []


@pytest.mark.parametrize("is_reported", [True, False])
def test_push_to_a_servers_old_place_does_not_count_for_the_new_one(
    daemon: SimulatedDaemon, is_reported: bool
) -> None:
    daemon.world["one"] = "r2"
    old = daemon.push_begun()
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


def test_push_of_a_dropped_environment_does_not_count_once_it_is_back(
    daemon: SimulatedDaemon,
) -> None:
    worker = _under_way(daemon)
    daemon.scheduler.adopt(daemon.assignments(two=("a", "b")))
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    worker.report_push("b", revision="r2")
    daemon.end(worker)
    assert daemon.row("one", "b").state == LAGGING


@pytest.mark.parametrize("is_dropped", [True, False])
@pytest.mark.parametrize("reports", ["a revision", "a failure", "a refused source", "nothing"])
def test_a_push_of_a_source_that_has_moved_says_nothing_of_the_one_at_the_new_path(
    reports: str, is_dropped: bool, daemon: SimulatedDaemon
) -> None:
    """Else that would be pushed before its first scan, and before any check."""
    worker = _under_way(daemon)
    daemon.checks["/q/one"] = FakeInstallCheck("one")
    if is_dropped:
        daemon.scheduler.adopt(daemon.assignments(two=("a", "b")))
    daemon.edit(path="/q/one")
    if reports == "a revision":
        worker.report_revision("r2")
    if reports == "a failure":
        worker.report_failure(BUSY)
    if reports == "a refused source":
        worker.report_push("b", BUSY)
    daemon.end(worker)
    assert daemon.row("one", "b").state == LAGGING
    assert daemon.store.state.sources["one"].error is None
    assert not daemon.scheduler.sources["one"].state.may_be_pushed
    assert daemon.turn() == [Task(("one",))]


def test_a_scan_that_hangs_at_the_old_path_does_not_keep_the_new_one_from_being_scanned(
    start_daemon: StartDaemon, daemon: SimulatedDaemon
) -> None:
    again = start_daemon()
    assert again.turn() == [Task(("one",))]
    again.checks["/q/one"] = FakeInstallCheck("one")
    again.edit(path="/q/one")
    again.now += SLOW_SECONDS
    assert again.turn() == [Task(("one",))]


def test_local_paths_edited_during_a_scan_are_scanned_again(daemon: SimulatedDaemon) -> None:
    daemon.now += RESCAN
    [scan] = daemon.turn()
    assert scan.is_scan
    worker = daemon.at_work()[-1]
    daemon.edit(local=("logs/**",))
    worker.report_revision("r1")
    daemon.end(worker)
    assert daemon.turn() == [Task(("one",))]


def test_other_local_paths_are_another_version(daemon: SimulatedDaemon) -> None:
    daemon.world["one"] = "without logs"
    daemon.edit(local=("logs/**",))
    assert check_of(daemon, "one").local == ("logs/**",)
    assert daemon.later(SETTLE + 1) == [Task(("one",)), Task(("one",), ("a", "b"))]
    daemon.edit(local=("logs/**",))
    assert daemon.later(60) == []
