"""What becomes of one environment on one server after each push."""

from __future__ import annotations

import math

import pytest

from envsync.daemon import transitions
from envsync.daemon.rows import (
    HALTED,
    HELD,
    IN_STEP,
    LAGGING,
    PUSHING,
    RETRYING,
    WAITING,
    ServerRow,
)
from envsync.errors import all_errors, error_from_json

ROW = ServerRow("myenv", "server2", since_seconds=50.0)
RESCAN, NOW = 3600.0, 1000.0
OLD, NEW = "old" * 21, "new" * 21


def after(code: str, row: ServerRow = ROW, now: float = NOW, jitter: float = 0.0) -> ServerRow:
    error = error_from_json({"code": code, "message": "m"})
    assert error.code == code
    return transitions.after_failure(
        transitions.to_pushing(row, now), error, NEW, now, RESCAN, jitter
    )


def test_a_push_that_succeeded_forgets_what_was_before() -> None:
    troubled = after("connection-failed", after("connection-failed"))
    done = transitions.after_success(troubled, NEW, NOW)
    assert done == ServerRow("myenv", "server2", IN_STEP, NEW, since_seconds=NOW)
    assert transitions.due_seconds(done, NEW) == math.inf
    assert transitions.due_seconds(done, OLD) <= NOW
    assert transitions.due_seconds(done, "") == math.inf  # nobody has looked at the source yet


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("connection-failed", RETRYING),
        ("locked", RETRYING),
        ("no-space", RETRYING),
        ("unexpected", RETRYING),
        ("in-use", WAITING),
        ("held", HELD),
        ("check-failed", HELD),
        ("drift", HALTED),
        ("not-fast-forward", HALTED),
        ("source-shrunk", HALTED),
        ("preflight-refused", HALTED),
        ("target-is-source", HALTED),
        ("host-key-refused", HALTED),
    ],
)
def test_which_failure_makes_which_state(code: str, state: str) -> None:
    row = after(code)
    assert row.state == state
    assert row.error is not None
    assert transitions.due_seconds(row, NEW) == row.next_try_seconds
    # Another version may be another matter, where the version was what was refused.
    assert (transitions.due_seconds(row, OLD) <= NOW) is (state in (HELD, HALTED))


@pytest.mark.parametrize("code", ["drift", "held"])
def test_server_that_was_stopped_before_the_sources_version_was_known_waits_all_the_same(
    code: str,
) -> None:
    error = error_from_json({"code": code, "message": "m"})
    row = transitions.after_failure(ROW, error, "", NOW, RESCAN, 0.0)
    assert row.next_try_seconds == NOW + RESCAN
    assert transitions.due_seconds(row, NEW) == NOW + RESCAN


def test_what_a_push_told_stays_with_its_version() -> None:
    pushed = transitions.after_success(ROW, OLD, NOW, ("credentials",), ("a -> b",))
    failed = after("connection-failed", pushed)
    found = transitions.after_success(failed, OLD, NOW, ("no driver",))  # sends nothing
    assert found.warnings == ("credentials", "no driver")
    assert found.changes == ("a -> b",)
    newer = transitions.after_success(found, NEW, NOW, ("no driver",))
    assert (newer.warnings, newer.changes) == (("no driver",), ())
    by_hand = transitions.after_success(newer, OLD, NOW)
    assert by_hand.warnings == ()


def test_server_that_is_halted_again_after_a_look_has_been_so_since_the_first_time() -> None:
    halted = after("drift")
    lagging = transitions.to_lagging(halted, NOW + 100)
    off = after("connection-failed", lagging, now=NOW + 200)
    again = after("host-key-refused", off, now=NOW + 300)
    assert (again.state, again.since_seconds) == (HALTED, NOW)
    mended = transitions.after_success(again, NEW, NOW + 400)
    assert after("drift", mended, now=NOW + 500).since_seconds == NOW + 500


def test_a_server_where_the_version_was_rolled_back_has_an_unknown_one() -> None:
    assert after("held", transitions.after_success(ROW, NEW, NOW)).revision == ""
    assert after("held", transitions.after_success(ROW, OLD, NOW)).revision == OLD
    assert after("drift", transitions.after_success(ROW, NEW, NOW)).revision == NEW


def test_an_environment_in_use_is_asked_for_ever_more_rarely() -> None:
    row, pauses = ROW, list[float]()
    for _ in range(9):
        row = after("in-use", row)
        assert row.next_try_seconds is not None
        pauses.append(row.next_try_seconds - NOW)
    assert pauses[:3] == [15.0, 30.0, 60.0]
    assert pauses[-1] == transitions.SLOW_MAX_SECONDS
    assert row.since_seconds == ROW.since_seconds  # since when it lags


@pytest.mark.parametrize(("code", "pause"), [("in-use", 15.0), ("no-space", 2.0)])
def test_an_outage_does_not_lengthen_the_pauses_of_what_is_met_after_it(
    code: str, pause: float
) -> None:
    row = ROW
    for number in range(20):
        row = after("connection-lost" if number % 2 else "connection-failed", row)
    assert row.attempts == 20  # both say that it is out of reach
    row = after(code, row)
    assert (row.next_try_seconds, row.attempts) == (NOW + pause, 1)


def test_every_class_of_errors_is_tried_again_within_a_rescan() -> None:
    for error in all_errors():
        if error.code != "source-refused":
            for jitter in (0.0, 1.0):
                row = after(error.code, jitter=jitter)
                assert row.next_try_seconds is not None, error
                assert NOW < row.next_try_seconds <= NOW + RESCAN, error


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_a_server_that_answers_again_is_tried_within_a_minute(jitter: float) -> None:
    row, pauses = ROW, []
    for _ in range(200):
        row = after("connection-failed", row, jitter=jitter)
        assert row.next_try_seconds is not None
        pauses.append(row.next_try_seconds - NOW)
    assert pauses[0] < 3
    assert 24 <= max(pauses) <= 30
    assert row.since_seconds == 50.0  # it lags since then
    assert row.attempts == 200


def test_a_push_of_which_only_the_source_was_to_blame() -> None:
    row = transitions.after_source_failure(transitions.to_pushing(ROW, NOW), NOW)
    assert (row.state, row.since_seconds, row.attempts) == (LAGGING, 50.0, 0)


def test_a_push_under_way_is_left_alone() -> None:
    row = transitions.to_pushing(ROW, NOW)
    assert row.state == PUSHING
    assert transitions.to_lagging(row, NOW) == row
    assert transitions.due_seconds(row, NEW) == math.inf


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    row = after("drift", now=NOW + 1e8)
    assert transitions.due_seconds(row, NEW) > NOW
    assert transitions.due_seconds(transitions.clamped(row, NOW, RESCAN), NEW) <= NOW


@pytest.mark.parametrize(
    ("code", "hint", "told"),
    [
        ("host-key-refused", "h", "h; then: envsync daemon sync myenv"),
        ("preflight-refused", "h", "h; then: envsync daemon sync myenv"),
        ("drift", "h", "h"),
        # What is taken out is forgotten: there is nothing to do then.
        ("target-is-source", "leave it out of `push_to:`", "leave it out of `push_to:`"),
        ("preflight-refused", "set `push_to:`", "set `push_to:`; then: envsync daemon sync myenv"),
        ("in-use", "h", "h"),
        ("transfer-failed", "install rsync there", "install rsync there"),
    ],
)
def test_what_halts_a_server_says_how_the_daemon_hears_of_the_mend(
    code: str, hint: str, told: str
) -> None:
    error = error_from_json({"code": code, "message": "m", "hint": hint})
    failed = transitions.after_failure(ROW, error, NEW, NOW, RESCAN, 0.0).error
    assert failed is not None
    assert failed.hint == told
