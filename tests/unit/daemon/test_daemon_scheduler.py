"""What is scanned and pushed when, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsync.daemon import scheduler as module
from envsync.daemon import worker_pool
from envsync.daemon.log import Log
from envsync.daemon.message_handler import REFUSED_MAX_SECONDS
from envsync.daemon.request_handler import Answers
from envsync.daemon.store import HALTED, HELD, IN_STEP, LAGGING, PUSHING, RETRYING
from envsync.daemon.tasks import BEGIN, CHANGED_SINCE, Order
from envsync.daemon.triggers import Observation
from envsync.daemon.worker_pool import (
    CHILDREN_MAX,
    END_MAX_SECONDS,
    SILENCE_MAX_SECONDS,
    SLOW_SECONDS,
    START_AGAIN_SECONDS,
)
from envsync.errors import PreflightRefused
from tests.unit.daemon.simulation import (
    DOWN,
    RESCAN,
    SETTLE,
    Kept,
    PretendedChild,
    PretendedLook,
    looks,
)

REFUSED = {"code": "drift", "message": "it was changed there", "hint": "x", "details": []}
BUSY = {"code": "source-refused", "message": "not at rest: pip is at it", "hint": "", "details": []}
GONE = {"code": "not-found", "message": "there is no environment", "hint": "", "details": []}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Everything is in step."""
    found = new(tmp_path, monkeypatch)
    found.later(60)
    assert found.states() == [IN_STEP] * 4
    yield found
    found.store.close()


def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *unfinished: str) -> Kept:
    """Where a look at `one` finds that half done."""
    pretended = looks()
    pretended["/p/envs/one"].seen = Observation(unfinished=unfinished)
    monkeypatch.setattr(module, "Look", pretended.__getitem__)
    return Kept(tmp_path, looks=pretended)


def look_at(kept: Kept, name: str) -> PretendedLook:
    return kept.looks[f"/p/envs/{name}"]


def test_the_first_start_scans_once_and_pushes_what_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = new(tmp_path, monkeypatch)
    assert kept.work() == [Order(("one", "two"))]
    assert kept.later(SETTLE - 0.1) == []
    orders = kept.later(1)
    assert orders == [Order(("one",), ("a", "b")), Order(("two",), ("a", "b"))]
    kept.store.close()


def test_one_push_for_many_events(kept: Kept) -> None:
    kept.world["one"] = "r2"
    for _ in range(20):
        kept.keeper.hint(["one", "unknown"])
        assert kept.later(1) == []
    assert kept.later(SETTLE) == [Order(("one",), ("a", "b"))]
    assert kept.later(RESCAN / 2) == []
    assert [kept.row("one", s).revision for s in "ab"] == ["r2", "r2"]


def test_an_installer_is_waited_for(kept: Kept) -> None:
    look_at(kept, "one").seen = Observation(busy="pip (process 7)")
    kept.keeper.hint(["one"])
    assert kept.later(120) == []
    assert kept.keeper.activity("one").busy == "pip (process 7)"
    look_at(kept, "one").seen = Observation()
    assert kept.later(SETTLE - 1) == []
    assert kept.later(1) == [Order(("one",), ("a", "b"))]


def test_a_child_is_ready_when_the_source_has_settled(kept: Kept) -> None:
    """It is given the word; one that nobody needs any more is dismissed."""
    kept.keeper.hint(["one"])
    kept.later(SETTLE - 0.1)
    ready = kept.children[-1]
    assert (ready.order.awaits_word, ready.words) == (True, [])
    started = len(kept.children)
    assert kept.later(1) == [Order(("one",), ("a", "b"))]
    assert (ready.words, len(kept.children)) == ([BEGIN], started)

    kept.keeper.hint(["one"])
    kept.later(SETTLE - 0.1)
    kept.keeper.hint(["one"])  # after the child has looked
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]
    assert kept.children[-1].words == [CHANGED_SINCE]

    kept.keeper.hint(["one"])
    kept.later(SETTLE - 0.1)
    look_at(kept, "one").seen = Observation(busy="pip (process 7)")
    assert kept.later(60) == []
    assert (kept.children[-1].words, kept.children[-1].is_dismissed) == ([], True)


def test_a_ready_child_that_died_or_has_other_servers_is_replaced(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.later(SETTLE - 0.1)
    kept.end(kept.children[-1])
    assert kept.later(1) == [Order(("one",), ("a", "b"))]
    kept.keeper.hint(["one"])
    kept.later(SETTLE - 0.1)
    kept.keeper.adopt(kept.duties(one=("b", "c")))
    assert kept.later(1) == [Order(("one",), ("b", "c"))]
    pushes = [child for child in kept.children if not child.order.makes_spare]
    assert [child.is_dismissed for child in pushes[-2:]] == [True, False]


def test_a_spare_is_made_when_there_is_nothing_else_to_do(kept: Kept) -> None:
    """Once for each server that is in step, and again where a push has used it up."""
    both = [Order((name,), ("a", "b"), makes_spare=True) for name in ("one", "two")]
    assert kept.spares == both
    kept.later(RESCAN + 1)
    assert kept.spares == both
    _change(kept, wanting={"b"})
    kept.later(SETTLE + 1)
    assert kept.spares == [*both, Order(("one",), ("b",), makes_spare=True)]


def test_a_spare_is_not_made_for_a_server_that_is_behind(kept: Kept) -> None:
    kept.down.add("b")
    _change(kept, wanting={"a", "b"})
    kept.later(SETTLE + 1)
    assert kept.spares[2:] == [Order(("one",), ("a",), makes_spare=True)]


@pytest.mark.parametrize("told", ["hint", "sync"])
def test_a_spare_that_is_in_the_way_is_given_up(kept: Kept, told: str) -> None:
    """It holds the lock there; it is made after what it was in the way of."""
    _change(kept, wanting={"a"})
    kept.now += SETTLE + 1
    kept.turn()
    [push] = kept.at_work()
    kept.finish(push)
    kept.turn()
    [making] = kept.at_work()
    assert making.order == Order(("one",), ("a",), makes_spare=True)
    if told == "hint":
        kept.keeper.hint(["one"])
    else:
        kept.keeper.sync("one")
    assert making.is_dismissed
    assert kept.turn() == [], "who makes it still has the lock there"
    kept.end(making)
    if told == "sync":
        assert kept.turn() == [Order(("one",), ("a", "b"))]
    kept.later(SETTLE + 1)
    assert kept.spares[2:] == [Order(("one",), ("a", "b"), makes_spare=True)]


def test_a_spare_s_maker_that_does_not_end_is_killed(kept: Kept, making: PretendedChild) -> None:
    """And nobody waits for one that the kernel keeps."""
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    kept.now += END_MAX_SECONDS - 0.1
    kept.turn()
    assert (making.is_dismissed, making.is_killed) == (True, False)
    kept.now += kept.keeper.next_seconds()
    assert kept.turn() == [Order(("one",), ("a", "b"))]
    assert making.is_killed
    kept.now += 60
    kept.turn()
    assert len([line for line in kept.lines if "was told to end, and does not" in line]) == 1


def test_a_ready_child_that_does_not_end_is_killed(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.now += SETTLE - module.READY_SECONDS
    kept.turn()
    child = kept.children[-1]
    look_at(kept, "one").seen = Observation(busy="pip (process 7)")
    kept.now += module.READY_SECONDS
    kept.turn()
    kept.turn()
    assert (child.order.awaits_word, child.is_dismissed, child.is_killed) == (True, True, False)
    kept.now += END_MAX_SECONDS
    kept.turn()
    assert child.is_killed
    kept.end(child)


def test_a_spare_holds_back_no_other_server(kept: Kept) -> None:
    """One that was off, and answers again, is pushed to while a spare is still being made."""
    kept.down.add("b")
    _change(kept, wanting={"a"})
    kept.now += SETTLE + 1
    kept.turn()
    [push] = kept.at_work()
    kept.finish(push)
    kept.turn()
    [making] = kept.at_work()
    assert making.order == Order(("one",), ("a",), makes_spare=True)
    kept.now += 60
    assert kept.turn() == [Order(("one",), ("b",))]
    assert not making.is_dismissed


@pytest.mark.parametrize(
    ("code", "lines"), [("preflight-refused", 1), ("locked", 0), ("connection-failed", 0)]
)
def test_a_spare_that_came_to_nothing_is_tried_again_with_each_rescan(
    kept: Kept, code: str, lines: int
) -> None:
    """There and nowhere else, until it is had; what is said of it is told once."""
    kept.no_spare["b"] = {"code": code, "message": "so it is"}
    _change(kept, wanting={"a", "b"})
    kept.later(SETTLE + 1)
    known = len(kept.spares)
    again = Order(("one",), ("b",), makes_spare=True)
    for tries in (1, 2):
        kept.later(RESCAN)
        assert kept.spares[known:] == [again] * tries
    kept.no_spare.clear()
    kept.later(3 * RESCAN)
    assert kept.spares[known:] == [again] * 3
    assert len([line for line in kept.lines if "so it is" in line]) == lines


@pytest.fixture
def making(kept: Kept) -> PretendedChild:
    """Who makes a spare tree of `one` on both servers."""
    _change(kept, wanting={"a", "b"})
    kept.now += SETTLE + 1
    kept.turn()
    [push] = kept.at_work()
    kept.finish(push)
    kept.turn()
    [making] = kept.at_work()
    assert making.order == Order(("one",), ("a", "b"), makes_spare=True)
    kept.lines.clear()
    return making


def test_a_spare_that_cannot_be_made_is_a_line_of_the_log(
    kept: Kept, making: PretendedChild
) -> None:
    """And no state of anything: the next push only takes longer."""
    before = kept.states()
    making.say(error={"code": "storage-failed", "message": "its disk fails", "server": "b"})
    for code in ("locked", "connection-failed", "connection-lost"):
        making.say(error={"code": code, "message": "that is ordinary", "server": "a"})
    kept.keeper.hear(making.fd)
    kept.end(making)
    [line] = kept.lines
    assert line.endswith(" one -> b: no tree was made there for the next push: its disk fails")
    assert (kept.states(), kept.store.contents.sources["one"].error) == (before, None)


@pytest.mark.parametrize("is_told_to_end", [False, True])
def test_a_spare_whose_child_breaks_down(
    kept: Kept, making: PretendedChild, is_told_to_end: bool
) -> None:
    if is_told_to_end:
        kept.keeper.hint(["one"])
    making.status, making.said = 1, "Traceback\nKeyError: 'x'"
    before = kept.states()
    kept.end(making)
    assert (kept.states(), kept.store.contents.sources["one"].error) == (before, None)
    told = " one -> a, b: no tree was made there for the next push: the process that makes it ended"
    assert [told in line and "KeyError" in line for line in kept.lines] == [True][is_told_to_end:]


def _change(kept: Kept, *, wanting: set[str]) -> None:
    """A change of `one`, after whose push these servers have nothing for the next."""
    kept.wanting_spares |= wanting
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])


def test_a_rescan_is_spared_where_nothing_changed(kept: Kept) -> None:
    kept.later(RESCAN)
    [before] = [glance for glance in kept.children[-1].order.glances if glance.environment == "one"]
    assert (before.path, before.digest) == ("/p/envs/one", "digest r1")
    kept.store.put_source(replace(kept.store.contents.sources["one"], error=GONE))
    kept.now += RESCAN
    kept.turn()
    assert [glance.digest for glance in kept.children[-1].order.glances] == ["", "digest r1"]


def test_a_broken_install_is_told_and_not_pushed_until_it_is_mended(kept: Kept) -> None:
    look_at(kept, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    assert kept.later(300) == []
    error = kept.store.contents.sources["one"].error
    assert error is not None
    assert "an installer left ~umpy" in error["message"]
    assert len([line for line in kept.lines if "~umpy" in line]) == 1
    look_at(kept, "one").seen = Observation()
    kept.keeper.hint(["one"])
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]
    assert kept.store.contents.sources["one"].error is None


def test_a_rescan_does_not_push_what_is_broken(kept: Kept) -> None:
    look_at(kept, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    assert kept.later(2 * RESCAN + 10) == [Order(("one", "two"))] * 2


def test_a_restart_does_not_push_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Kept
) -> None:
    """Nor does a scan of it, or one that failed, take back what was found."""
    signs = ("half-1.0 is installed in part: it has no INSTALLER",)
    look_at(kept, "one").seen = Observation(unfinished=signs)
    kept.world["one"] = "half"
    kept.keeper.hint(["one"])
    kept.later(RESCAN + 10)
    kept.keeper.book.source_failed("one", BUSY)
    told = kept.store.contents.sources["one"]
    assert (told.revision, told.unfinished, (told.error or {})["code"]) == (
        "half",
        signs,
        "unfinished",
    )
    again = new(tmp_path, monkeypatch, *signs)
    again.world["one"] = "half"
    assert again.later(RESCAN + 60) == [Order(("one", "two"))] * 2
    assert look_at(again, "one").suspected == signs
    look_at(again, "one").seen = Observation()
    assert again.later(60) == [Order(("one",), ("a", "b"))]
    assert again.store.contents.sources["one"].error is None
    again.store.close()


def test_a_person_may_have_it_pushed_as_it_is(kept: Kept) -> None:
    look_at(kept, "one").seen = Observation(unfinished=("an installer left ~umpy",))
    kept.keeper.hint(["one"])
    kept.later(60)
    kept.keeper.sync("one")
    assert kept.work() == [Order(("one",), ("a", "b"))]
    kept.keeper.hint(["one"])  # and is not asked again
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]


def test_what_was_accepted_stays_so_while_an_installer_is_at_work(kept: Kept) -> None:
    remains = Observation(unfinished=("an installer left ~umpy",))
    look_at(kept, "one").seen = remains
    kept.keeper.sync("one")
    kept.work()
    look_at(kept, "one").seen = Observation(busy="pip (process 7)")
    kept.keeper.hint(["one"])
    assert kept.later(SETTLE + 1) == []
    look_at(kept, "one").seen = remains
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]
    look_at(kept, "one").seen = Observation()
    kept.keeper.hint(["one"])
    kept.later(SETTLE + 1)
    assert kept.store.contents.sources["one"].tolerated == ()


def test_a_server_that_is_off_is_tried_by_one_environment_and_gets_the_newest(kept: Kept) -> None:
    kept.down = {"b"}
    for number in range(2, 6):
        kept.world = {"one": f"r{number}", "two": f"r{number}"}
        kept.keeper.hint(["one", "two"])
        kept.later(60)
    assert kept.states() == [IN_STEP, RETRYING] * 2
    tries = kept.later(600)
    assert 15 < len(tries) < 30, "one environment speaks for all"
    assert {order.servers for order in tries} == {("b",)}
    kept.down = set()
    kept.later(40)
    assert kept.states() == [IN_STEP] * 4
    assert kept.row("two", "b").revision == "r5"
    assert kept.later(60) == []


def test_a_halted_server_waits_for_another_version_or_a_rescan(kept: Kept) -> None:
    kept.refused = {"b": REFUSED}
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    kept.later(SETTLE + 1)
    assert (kept.row("one", "b").state, kept.row("one", "b").refused) == (HALTED, "r2")
    assert kept.later(RESCAN / 2) == []
    assert Order(("one",), ("b",)) in kept.later(RESCAN / 2)
    kept.refused = {}
    kept.world["one"] = "r3"
    kept.keeper.hint(["one"])
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]
    assert kept.states() == [IN_STEP] * 4


def test_a_rollback_there_stays(kept: Kept) -> None:
    """Nothing is pushed while the source stays; what the next try meets is `held`."""
    kept.refused = {"b": {**REFUSED, "code": "held"}}
    assert kept.later(3 * RESCAN) == [Order(("one", "two"))] * 3
    kept.keeper.sync("one")
    kept.work()
    assert kept.row("one", "b").state == HELD


def test_a_source_that_is_busy_says_nothing_of_servers(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    assert kept.turn() == [Order(("one",), ("a", "b"))]
    assert [kept.row("one", s).state for s in "ab"] == [PUSHING, PUSHING]
    child = kept.at_work()[-1]
    for server in "ab":
        child.say(report={"server": server, "error": BUSY, "revision": ""})
    kept.end(child)
    assert [kept.row("one", s).state for s in "ab"] == [LAGGING, LAGGING]
    assert kept.turn() == []
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]
    assert kept.states() == [IN_STEP] * 4


def test_a_server_that_was_off_is_tried_again_whatever_became_of_a_try(kept: Kept) -> None:
    """The source was not at rest when it was tried, or has left the inventory meanwhile."""
    kept.down = {"b"}
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    kept.later(SETTLE + 1)
    assert kept.row("one", "b").state == RETRYING
    kept.world["two"] = "r2"
    kept.keeper.hint(["two"])
    while not kept.at_work():
        kept.now += 1
        kept.turn()
    for child in kept.at_work():
        for server in child.order.servers:
            child.say(report={"server": server, "error": BUSY, "revision": ""})
        kept.end(child)
    kept.down = set()
    kept.later(60)
    assert kept.states() == [IN_STEP] * 4


def test_a_clock_that_is_set_back_delays_nothing(kept: Kept) -> None:
    """As at a boot with a wrong clock, before the network's time comes."""
    kept.wall_ahead = 7 * 86400.0
    kept.down = {"b"}
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    kept.later(SETTLE + 30)
    assert kept.row("one", "b").state == RETRYING
    kept.wall_ahead = 0.0
    kept.down = set()
    kept.later(60)
    assert kept.states() == [IN_STEP] * 4


def test_an_environment_that_is_gone_and_comes_back(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    kept.turn()
    child = kept.at_work()[-1]
    child.say(error=GONE)
    kept.end(child)
    assert kept.later(RESCAN / 2) == []
    error = kept.store.contents.sources["one"].error
    assert error is not None
    assert error["code"] == "not-found"
    kept.keeper.hint(["one"])
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]
    assert kept.states() == [IN_STEP] * 4


def test_a_child_that_dies_is_not_started_again_at_once(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    kept.turn()
    for number in range(8):
        child = kept.at_work()[-1]
        child.status, child.said = -9, "killed"
        child.say(revision="r1")
        kept.end(child)
        assert kept.turn() == []
        row = kept.row("one", "a")
        assert (row.state, row.attempts) == (RETRYING, number + 1)
        assert row.next_try_seconds is not None
        kept.now = row.next_try_seconds
        assert kept.turn() == [Order(("one",), ("a", "b"))]
    assert "signal 9" in str(row.error)


@pytest.mark.parametrize("glances", [True, False])
def test_a_scan_that_breaks_down_is_told_and_made_up_for(kept: Kept, glances: bool) -> None:
    """Also one whose child had found that there is something to scan."""
    kept.world["one"] = "r2"
    kept.now += RESCAN
    kept.turn()
    [child] = kept.at_work()
    child.status, child.said = -9, ""
    if glances:
        child.say(glance="another", unchanged=False)
    child.say(environment="two", glance="digest r1", unchanged=True)
    kept.end(child)
    [line] = [line for line in kept.lines if "ended by itself" in line]
    assert "one: the process that scans ended by itself (signal 9)" in line
    assert kept.store.contents.sources["two"].error is None
    assert kept.later(SETTLE + 1) == [Order(("one",), ("a", "b"))]
    assert kept.states() == [IN_STEP] * 4
    assert kept.store.contents.sources["one"].error is None


def test_what_breaks_down_every_time_is_asked_again_ever_later(kept: Kept) -> None:
    kept.now += RESCAN
    kept.turn()
    pauses, before = list[float](), kept.now
    while len(pauses) < 8:
        for child in kept.at_work():
            child.status = -9
            if child.order.is_scan:
                child.say(environment="two", glance="digest r1", unchanged=True)
            kept.end(child)
            pauses.append(kept.now - before)
            before = kept.now
        kept.now += kept.keeper.next_seconds()
        kept.turn()
    assert pauses == [0.0, *(SETTLE * 2**number for number in range(5)), 300.0, 300.0]
    kept.later(REFUSED_MAX_SECONDS)
    assert kept.states() == [IN_STEP] * 4


def test_a_child_that_hangs_is_killed_in_the_end(kept: Kept) -> None:
    """One that says something from time to time may take as long as it likes."""
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    kept.turn()
    child = kept.at_work()[-1]
    for server in "ab":
        kept.now += SILENCE_MAX_SECONDS - 1
        kept.turn()
        assert not child.is_killed
        if server == "a":
            report = {"server": "a", "error": None, "revision": "r1", "outcome": "in-step"}
            child.say(report=report)
            kept.keeper.hear(child.fd)
    kept.now += 2
    kept.turn()
    assert child.is_killed
    kept.end(child)
    assert [kept.row("one", server).state for server in "ab"] == [IN_STEP, RETRYING]
    kept.later(60)
    assert kept.states() == [IN_STEP] * 4


def test_a_slow_server_s_end_says_nothing_of_one_that_is_tried_again_meanwhile(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    kept.turn()
    slow = kept.at_work()[-1]
    slow.say(revision="r1")
    slow.say(report={"server": "b", "error": DOWN, "revision": ""})
    kept.keeper.hear(slow.fd)
    kept.now += 3
    assert kept.turn() == [Order(("one",), ("b",))]
    slow.say(report={"server": "a", "error": None, "revision": "r1", "outcome": "in-step"})
    kept.end(slow)
    assert [kept.row("one", s).state for s in "ab"] == [IN_STEP, PUSHING]
    kept.finish(kept.at_work()[-1])
    assert kept.states() == [IN_STEP] * 4


def six(kept: Kept) -> list[PretendedChild]:
    """Six environments go to two servers; four children have pushed to the fast one, and wait
    for the other."""
    names = [f"e{number}" for number in range(6)]
    for name in names:
        kept.looks[f"/p/envs/{name}"] = PretendedLook(name)
        kept.world[name] = "r1"
    kept.keeper.adopt(kept.duties(**dict.fromkeys(names, ("fast", "slow"))))
    kept.turn()
    kept.finish(kept.at_work()[0])
    kept.now += SETTLE + 1
    assert len(kept.turn()) == CHILDREN_MAX
    for child in kept.at_work():
        child.say(revision="r1")
        child.say(report=kept._report(child.order.environments[0], "fast"))
        kept.keeper.hear(child.fd)
    return kept.at_work()


def test_a_slow_server_holds_back_no_other(kept: Kept) -> None:
    waiting = six(kept)
    kept.world["e0"] = "r2"
    kept.keeper.hint(["e0"])
    assert kept.turn() == []
    end = kept.now + SLOW_SECONDS
    began = list[Order]()
    while kept.now < end:
        kept.now += kept.keeper.next_seconds()
        began += kept.turn()
    assert sorted(began, key=lambda order: order.environments) == [
        Order((name,), ("fast",)) for name in ("e0", "e4", "e5")
    ]
    for child in kept.at_work()[len(waiting) :]:
        kept.finish(child)
    assert kept.turn() == []
    assert {kept.row(f"e{number}", "fast").state for number in range(6)} == {IN_STEP}
    kept.refused = {"slow": {**DOWN, "code": "transfer-failed"}}
    kept.finish(waiting[3])
    assert kept.turn() == [Order(("e4",), ("slow",))]
    kept.now += 60  # what is to be tried again there wakes nobody while it cannot be
    assert (kept.row("e3", "slow").state, kept.turn()) == (RETRYING, [])
    assert kept.keeper.next_seconds() > 1
    kept.refused = {}
    kept.later(600)
    assert {row.state for row in kept.store.contents.servers.values()} == {IN_STEP}


def test_a_scan_waits_for_no_push(kept: Kept) -> None:
    six(kept)
    kept.now += RESCAN
    assert any(order.is_scan for order in kept.turn())


def test_there_is_an_end_to_the_children(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "CHILDREN_HARD_MAX", CHILDREN_MAX + 1)
    six(kept)
    kept.now += SLOW_SECONDS
    assert len(kept.turn()) == 1
    kept.now += SLOW_SECONDS
    assert kept.turn() == []


def test_no_process_for_a_while(kept: Kept) -> None:
    kept.no_process = True
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    assert kept.later(60) == []
    assert 4 < len([line for line in kept.lines if "no process can be started" in line]) < 8
    kept.no_process = False
    assert kept.later(START_AGAIN_SECONDS) == [Order(("one",), ("a", "b"))]


def test_what_changes_during_a_push_is_pushed_after_it(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    kept.turn()
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    assert kept.turn() == [Order(("one",), is_settled=True)]  # nobody is free to take it
    for child in kept.at_work()[::-1]:
        kept.world["one"] = "r1" if child.order.is_push else "r2"
        kept.finish(child)
    kept.world["one"] = "r2"
    kept.later(1)
    assert [kept.row("one", s).revision for s in "ab"] == ["r2", "r2"]


def test_pause_and_resume(kept: Kept) -> None:
    kept.keeper.pause(["one"], paused=True)
    kept.world = {"one": "r2", "two": "r2"}
    kept.keeper.hint(["one", "two"])
    assert kept.later(60) == [Order(("two",), ("a", "b"))]
    kept.keeper.pause(["one"], paused=False)
    assert kept.later(1) == [Order(("one",), ("a", "b"))]


def test_a_pause_holds_also_when_all_is_asked_for(kept: Kept) -> None:
    answers = Answers(kept.keeper, Log(kept.lines.append, {}), dict)
    kept.keeper.pause(["one"], paused=True)
    for named in (["one"], ["two", "one"]):
        with pytest.raises(PreflightRefused, match="one is paused: nothing was asked") as raised:
            answers.to({"verb": "sync", "environments": named})
        assert raised.value.hint == "envsync daemon resume one"
    assert answers.to({"verb": "sync", "environments": []}) == {"environments": ["two"]}
    assert kept.work() == [Order(("two",), ("a", "b"))]
    kept.keeper.pause(["two"], paused=True)
    with pytest.raises(PreflightRefused, match="one, two are paused"):
        answers.to({"verb": "sync"})


def test_servers_and_environments_come_and_go_with_the_inventory(kept: Kept) -> None:
    kept.world["three"] = "r1"
    kept.keeper.adopt(kept.duties(one=("b", "c"), three=("a",)))
    kept.later(SETTLE + 1)
    assert sorted(kept.store.contents.servers) == [("one", "b"), ("one", "c"), ("three", "a")]
    assert all(row.state == IN_STEP for row in kept.store.contents.servers.values())
    assert "two" not in kept.store.contents.sources
    assert kept.later(60) == []


def test_a_server_whose_name_leads_elsewhere_is_pushed_to(kept: Kept) -> None:
    kept.edit(places={"a": "a /p", "b": "b /p"})  # known by a daemon that did not note it
    assert kept.work() == []
    kept.edit(places={"a": "a /p", "b": "other /p"})
    assert kept.work() == [Order(("one",), ("b",))]
    assert (kept.row("one", "b").state, kept.row("one", "b").place) == (IN_STEP, "other /p")
    kept.edit(places={"a": "a /p", "b": "other /p"})
    assert kept.work() == []


@pytest.mark.parametrize("is_reported", [True, False])
def test_what_was_under_way_to_the_old_place_says_nothing_of_the_new_one(
    kept: Kept, is_reported: bool
) -> None:
    kept.edit(places={"a": "a /p", "b": "b /p"})
    kept.world["one"] = "r2"
    kept.keeper.hint(["one"])
    kept.now += SETTLE
    kept.turn()
    [old] = kept.at_work()
    kept.edit(places={"a": "a /p", "b": "other /p"})
    assert kept.turn() == [Order(("one",), ("b",))]
    if is_reported:
        kept.finish(old)
    else:
        kept.end(old)
    assert kept.row("one", "b").state == PUSHING
    assert kept.row("one", "a").state == (IN_STEP if is_reported else RETRYING)
    kept.later(60)
    assert kept.states() == [IN_STEP] * 4


def test_other_local_paths_are_another_version(kept: Kept) -> None:
    kept.world["one"] = "without logs"
    kept.edit(local=("logs/**",))
    assert kept.later(SETTLE + 1) == [Order(("one",)), Order(("one",), ("a", "b"))]
    kept.edit(local=("logs/**",))
    assert kept.later(60) == []


def test_a_child_that_is_ready_does_not_go_by_the_old_inventory(kept: Kept) -> None:
    kept.keeper.hint(["one"])
    kept.now += SETTLE - module.READY_SECONDS
    kept.turn()
    ready = kept.children[-1]
    kept.edit()
    assert (ready.order.awaits_word, ready.is_dismissed) == (True, True)
    kept.now += module.READY_SECONDS
    assert kept.turn() == [Order(("one",), ("a", "b"))]
    assert ready.words == []


def test_a_restart_pushes_only_what_changed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Kept
) -> None:
    again = new(tmp_path, monkeypatch)
    assert again.later(60) == [Order(("one", "two"))]
    third = new(tmp_path, monkeypatch)
    third.world["two"] = "r2"
    assert third.later(60) == [Order(("one", "two")), Order(("two",), ("a", "b"))]
    again.store.close()
    third.store.close()


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, float]]
) -> None:
    kept = new(tmp_path, monkeypatch)
    for number, (step, seconds) in enumerate(steps):
        if step == "change":
            kept.world["one"] = f"change {number}"
            kept.keeper.hint(["one"])
        elif step == "hint":
            kept.keeper.hint(["one", "two"])
        elif step in ("down", "up"):
            kept.down = {"a"} if step == "down" else set()
        else:
            kept.world["two"] = f"silent {number}"
        kept.later(seconds)
    kept.down = set()
    kept.later(RESCAN + 120)
    assert kept.states() == [IN_STEP] * 4
    for name, server in kept.store.contents.servers:
        assert kept.row(name, server).revision == kept.world[name]
    assert kept.work() == []
    assert kept.keeper.next_seconds() > RESCAN / 2  # nothing wakes it for nothing
    kept.store.close()
