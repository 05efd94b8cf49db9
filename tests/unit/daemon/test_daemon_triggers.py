"""When a source is ready to be pushed: once for each install, never in the middle of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.daemon.triggers import (
    BUSY_POLL_SECONDS,
    NO_ACTIVITY,
    UNFINISHED_POLL_MAX_SECONDS,
    UNSETTLED_MAX_SECONDS,
    Activity,
    Observation,
    changed,
    checked,
)

SETTLE = 10.0
QUIET, BUSY = Observation(), Observation(busy="pip (process 7)")
BROKEN = Observation(unfinished=("it has no RECORD",))


def test_a_change_is_looked_at_once_it_has_settled() -> None:
    activity = changed(NO_ACTIVITY, 100.0, SETTLE)
    assert activity.check_seconds == 110.0
    assert checked(activity, QUIET, 110.0, SETTLE) == NO_ACTIVITY


def test_each_further_change_settles_anew() -> None:
    activity = changed(changed(NO_ACTIVITY, 100.0, SETTLE), 108.0, SETTLE)
    assert activity.check_seconds == 118.0


def test_a_source_that_never_settles_is_looked_at_all_the_same() -> None:
    activity, now = changed(NO_ACTIVITY, 0.0, SETTLE), 0.0
    while now < activity.check_seconds:
        now += 5.0
        activity = changed(activity, now, SETTLE)
    assert now == pytest.approx(UNSETTLED_MAX_SECONDS, abs=SETTLE)


def test_last_write_of_an_installer_settles_too() -> None:
    activity = changed(NO_ACTIVITY, 0.0, SETTLE)
    activity = checked(activity, BUSY, 10.0, SETTLE)
    assert (activity.busy, activity.check_seconds) == (BUSY.busy, 10.0 + BUSY_POLL_SECONDS)
    activity = changed(activity, 10.2, SETTLE)
    assert activity.check_seconds == 10.0 + BUSY_POLL_SECONDS  # its end is polled for
    activity = checked(activity, QUIET, 10.5, SETTLE)
    assert activity.check_seconds == 10.2 + SETTLE
    assert checked(activity, QUIET, 20.5, SETTLE) == NO_ACTIVITY


def test_broken_install_is_checked_ever_more_rarely_until_a_change() -> None:
    activity, now = changed(NO_ACTIVITY, 0.0, SETTLE), 10.0
    pauses = []
    for _ in range(8):
        activity = checked(activity, BROKEN, now, SETTLE)
        pauses.append(activity.check_seconds - now)
        now = activity.check_seconds
    assert pauses == sorted(pauses)
    assert pauses[-1] == UNFINISHED_POLL_MAX_SECONDS
    assert changed(activity, now, SETTLE).check_seconds == now + SETTLE
    assert checked(activity, QUIET, now, SETTLE) == NO_ACTIVITY
    # Another installer begins, and leaves something half done as well.
    again = checked(checked(activity, BUSY, now, SETTLE), QUIET, now + 1, SETTLE)
    again = checked(again, BROKEN, again.check_seconds, SETTLE)
    assert again.check_seconds - now == pytest.approx(1 + SETTLE + pauses[0], abs=1)


def test_broken_install_is_checked_for_weeks() -> None:
    """At a pause that is as long as it gets: more often than two can be raised to."""
    activity = NO_ACTIVITY
    for number in range(1100):
        activity = checked(activity, BROKEN, number * UNFINISHED_POLL_MAX_SECONDS, SETTLE)
    assert activity.check_seconds == 1100 * UNFINISHED_POLL_MAX_SECONDS


def test_broken_install_that_changes_all_the_time_is_checked_in_the_end() -> None:
    activity = checked(changed(NO_ACTIVITY, 0.0, SETTLE), BROKEN, 10.0, SETTLE)
    now = 10.0
    while now < activity.check_seconds and now < 2 * UNSETTLED_MAX_SECONDS:
        now += 5.0
        activity = changed(activity, now, SETTLE)
    assert now == pytest.approx(UNSETTLED_MAX_SECONDS, abs=2 * SETTLE)


@given(
    st.lists(st.tuples(st.floats(0.01, 30.0), st.sampled_from(["hint", "begin", "end", "time"]))),
    st.floats(0.0, 30.0),
)
def test_never_ready_while_busy_or_before_it_settled_and_always_in_the_end(
    steps: list[tuple[float, str]], settle: float
) -> None:
    activity, now, is_busy = NO_ACTIVITY, 0.0, False
    last, ready_count, is_owed = float("-inf"), 0, False

    def run_until(end: float, activity: Activity) -> tuple[Activity, int]:
        count = 0
        while activity.check_seconds <= end:
            when = activity.check_seconds
            activity = checked(activity, BUSY if is_busy else QUIET, when, settle)
            if activity.is_at_rest:
                assert not is_busy
                assert when >= last + settle - 1e-6 or when - last >= UNSETTLED_MAX_SECONDS
                count += 1
        return activity, count

    for seconds, step in steps:
        activity, count = run_until(now + seconds, activity)
        ready_count += count
        is_owed = is_owed and not count
        now += seconds
        if step == "hint":
            activity, last, is_owed = changed(activity, now, settle), now, True
        elif step == "begin":
            is_busy = True
        elif step == "end":
            is_busy = False
    is_busy = False
    activity, count = run_until(now + 2 * settle + UNSETTLED_MAX_SECONDS, activity)
    assert activity == NO_ACTIVITY
    assert count == 1 if is_owed else count <= 1
