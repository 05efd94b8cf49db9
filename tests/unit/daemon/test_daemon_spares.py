"""Spare trees: made while there is nothing else to do, and given up where they are in the way."""

from __future__ import annotations

import pytest

from envsync.daemon.tasks import Task
from envsync.daemon.worker_limits import END_MAX_SECONDS
from envsync.errors import (
    ConnectionFailed,
    ConnectionLost,
    EnvsyncError,
    Locked,
    PreflightRefused,
    StorageFailed,
)
from tests.unit.daemon.simulation import (
    RESCAN,
    SETTLE,
    FakeInstallCheck,
    FakeProcess,
    SimulatedDaemon,
)


@pytest.fixture
def making(daemon: SimulatedDaemon) -> FakeProcess:
    """Who makes a spare tree of `one` on both servers."""
    found = _making(daemon, "a", "b")
    daemon.lines.clear()
    return found


def _making(daemon: SimulatedDaemon, *servers: str) -> FakeProcess:
    """Who makes a spare tree of `one` on these after a push has used up theirs."""
    _change(daemon, wanting=set(servers))
    daemon.now += SETTLE + 1
    daemon.turn()
    [push] = daemon.at_work()
    daemon.finish(push)
    daemon.turn()
    [making] = daemon.at_work()
    assert making.task == Task(("one",), servers, makes_spare=True)
    return making


def test_a_spare_is_made_when_there_is_nothing_else_to_do(daemon: SimulatedDaemon) -> None:
    """Once for each server that is in step, and again where a push has used it up."""
    both = [Task((name,), ("a", "b"), makes_spare=True) for name in ("one", "two")]
    assert daemon.spares == both
    daemon.later(RESCAN + 1)
    assert daemon.spares == both
    _change(daemon, wanting={"b"})
    daemon.later(SETTLE + 1)
    assert daemon.spares == [*both, Task(("one",), ("b",), makes_spare=True)]


@pytest.mark.parametrize(
    ("event", "servers"), [("server", ("b",)), ("path", ("a", "b")), ("dropped", ("a", "b"))]
)
def test_a_spare_is_made_anew_where_a_name_leads_elsewhere(
    daemon: SimulatedDaemon, event: str, servers: tuple[str, ...]
) -> None:
    before = len(daemon.spares)
    if event == "server":
        daemon.edit(places={"a": "a /p", "b": "other /p"})
    elif event == "path":
        daemon.checks["/q/one"] = FakeInstallCheck("one")
        daemon.edit(path="/q/one")
    else:
        daemon.scheduler.adopt(daemon.assignments(two=("a", "b")))
        daemon.scheduler.adopt(daemon.assignments())
    daemon.later(60)
    assert daemon.spares[before:] == [Task(("one",), servers, makes_spare=True)]


def test_a_spare_is_not_made_for_a_server_that_is_behind(daemon: SimulatedDaemon) -> None:
    daemon.down.add("b")
    _change(daemon, wanting={"a", "b"})
    daemon.later(SETTLE + 1)
    assert daemon.spares[2:] == [Task(("one",), ("a",), makes_spare=True)]


@pytest.mark.parametrize("event", ["hint", "sync"])
def test_a_spare_that_is_in_the_way_is_given_up(daemon: SimulatedDaemon, event: str) -> None:
    """It holds the lock there; it is made after what it was in the way of, and no other is."""
    making = _making(daemon, "a")
    if event == "hint":
        daemon.scheduler.hint(["one"])
    else:
        daemon.scheduler.sync("one")
    assert making.is_told_to_end
    assert daemon.turn() == [], "who makes it still has the lock there"
    daemon.end(making)
    if event == "sync":
        assert daemon.turn() == [Task(("one",), ("a", "b"))]
    daemon.later(SETTLE + 1)
    assert daemon.spares[2:] == [Task(("one",), ("a",), makes_spare=True)]


@pytest.mark.parametrize("servers", [("a", "b"), ("a",), (), None])
def test_a_spare_of_what_is_not_to_be_pushed_any_more_is_given_up(
    daemon: SimulatedDaemon, making: FakeProcess, servers: tuple[str, ...] | None
) -> None:
    """Paused (here None), taken from a server, or from the inventory: nothing is written there."""
    if servers is None:
        daemon.scheduler.pause(["one"], paused=True)
    else:
        left = {"one": servers} if servers else {}
        daemon.scheduler.adopt(daemon.assignments(**left, two=("a", "b")))
    assert making.is_told_to_end is (servers != ("a", "b"))


def test_a_spare_at_a_servers_old_place_is_given_up(
    daemon: SimulatedDaemon, making: FakeProcess
) -> None:
    daemon.edit(places={"a": "a /p", "b": "other /p"})
    assert making.is_told_to_end


def test_a_spare_s_maker_that_does_not_end_is_killed(
    daemon: SimulatedDaemon, making: FakeProcess
) -> None:
    """And nobody waits for one that the kernel keeps."""
    daemon.change_one("r2")
    daemon.now += END_MAX_SECONDS - 0.1
    daemon.turn()
    assert (making.is_told_to_end, making.is_killed) == (True, False)
    daemon.now = daemon.next_turn_seconds
    assert daemon.turn() == [Task(("one",), ("a", "b"))]
    assert making.is_killed
    daemon.now += 60
    daemon.turn()
    assert len([line for line in daemon.lines if "it did not end when told to" in line]) == 1


def test_a_server_on_which_a_spare_is_made_is_looked_at_when_it_is_there(
    daemon: SimulatedDaemon, making: FakeProcess
) -> None:
    """Who makes it has the lock there."""
    daemon.scheduler.look_again(["one"], ["b"])
    assert daemon.turn() == []
    daemon.finish(making)
    assert daemon.turn() == [Task(("one",), ("b",))]


def test_a_spare_holds_back_no_other_server(daemon: SimulatedDaemon) -> None:
    """One that was off, and answers again, is pushed to while a spare is still being made."""
    daemon.down.add("b")
    making = _making(daemon, "a")
    daemon.now += 60
    assert daemon.turn() == [Task(("one",), ("b",))]
    assert not making.is_told_to_end


@pytest.mark.parametrize(
    ("error", "lines"),
    [(PreflightRefused("so it is"), 1), (Locked("so it is"), 0), (ConnectionFailed("so it is"), 0)],
)
def test_a_spare_that_came_to_nothing_is_tried_again_with_each_rescan(
    daemon: SimulatedDaemon, error: EnvsyncError, lines: int
) -> None:
    """There and nowhere else, until it is had; what is said of it is logged once."""
    daemon.no_spare["b"] = error
    _change(daemon, wanting={"a", "b"})
    daemon.later(SETTLE + 1)
    known = len(daemon.spares)
    again = Task(("one",), ("b",), makes_spare=True)
    for tries in (1, 2):
        daemon.later(RESCAN)
        assert daemon.spares[known:] == [again] * tries
    daemon.no_spare.clear()
    daemon.later(3 * RESCAN)
    assert daemon.spares[known:] == [again] * 3
    assert len([line for line in daemon.lines if "so it is" in line]) == lines


def test_a_spare_that_cannot_be_made_is_a_line_of_the_log(
    daemon: SimulatedDaemon, making: FakeProcess
) -> None:
    """And no state of anything: the next push only takes longer."""
    before = daemon.states()
    making.report_failure(StorageFailed("its disk fails", server="b"))
    for ordinary in (Locked, ConnectionFailed, ConnectionLost):
        making.report_failure(ordinary("that is ordinary", server="a"))
    daemon.scheduler.read_worker(making.fd)
    daemon.end(making)
    [line] = daemon.lines
    assert line.endswith(" one -> b: no tree was prepared there for the next push: its disk fails")
    assert (daemon.states(), daemon.store.state.sources["one"].error) == (before, None)


@pytest.mark.parametrize("is_told_to_end", [False, True])
def test_a_spare_whose_worker_breaks_down(
    daemon: SimulatedDaemon, making: FakeProcess, is_told_to_end: bool
) -> None:
    if is_told_to_end:
        daemon.scheduler.hint(["one"])
    making.exit_status, making.stderr_tail = 1, "Traceback\nKeyError: 'x'"
    before = daemon.states()
    daemon.end(making)
    assert (daemon.states(), daemon.store.state.sources["one"].error) == (before, None)
    line = (
        " one -> a, b: no tree was prepared there for the next push: the process that prepares it"
    )
    assert [line in one and "KeyError" in one for one in daemon.lines] == [True][is_told_to_end:]


def _change(daemon: SimulatedDaemon, *, wanting: set[str]) -> None:
    """A change of `one`, after whose push these servers have nothing for the next."""
    daemon.wanting_spares |= wanting
    daemon.change_one("r2")
