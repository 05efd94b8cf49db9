"""What is known of a source, through everything that can happen to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.daemon import source_state
from envsync.daemon.installer_runs import InstallerRun
from envsync.daemon.rows import ErrorFacts, SourceRow
from envsync.daemon.source_state import MEND_CHECK_SECONDS, TrackedState
from envsync.daemon.triggers import Observation
from envsync.errors import InstallUnfinished, NotFound, SourceRefused

NOW, SETTLE, WALL = 1000.0, 10.0, 5e8
SIGN = "an installer left ~umpy"
KNOWN = TrackedState(SourceRow("myenv", revision="r1"), known_by=1)
CHANGED = source_state.changed(KNOWN, NOW, SETTLE)
REFUSED = ErrorFacts.of(SourceRefused("not at rest: pip is at it"))
UNFINISHED = ErrorFacts.of(InstallUnfinished(f"an installation is not finished: {SIGN}"))


def with_row(state: TrackedState, **changes: object) -> TrackedState:
    return replace(state, row=replace(state.row, **changes))  # type: ignore[arg-type]


def checked(state: TrackedState, *unfinished: str, busy: str = "") -> TrackedState:
    return source_state.checked(state, Observation(busy, unfinished), NOW, SETTLE)


@pytest.mark.parametrize(
    ("state", "may_be_pushed"),
    [
        (KNOWN, True),
        (replace(KNOWN, known_by=0), False),
        (with_row(KNOWN, paused=True), False),
        (with_row(KNOWN, error=REFUSED), False),
        (replace(with_row(KNOWN, error=REFUSED), is_changed=True), True),
        (CHANGED, False),
        (checked(CHANGED), True),
        (checked(CHANGED, SIGN), False),
        (checked(CHANGED, busy="pip (process 7)"), False),
        (with_row(checked(CHANGED), paused=True), False),
    ],
)
def test_a_source_is_pushed_at_rest_and_scanned_or_changed(
    state: TrackedState, may_be_pushed: bool
) -> None:
    assert state.may_be_pushed is may_be_pushed


@pytest.mark.parametrize(
    ("state", "is_coming"),
    [
        (CHANGED, True),
        (KNOWN, False),
        (checked(CHANGED, SIGN), False),
        (checked(CHANGED, busy="pip (process 7)"), False),
        (with_row(CHANGED, paused=True), False),
        (with_row(CHANGED, revision=""), False),
    ],
)
def test_a_push_is_made_ready_only_while_a_known_source_settles(
    state: TrackedState, is_coming: bool
) -> None:
    assert state.is_coming_to_rest is is_coming


@pytest.mark.parametrize(
    ("row", "is_in_doubt"),
    [
        (replace(KNOWN.row, installers=(InstallerRun("pip", 7, 1, 1.0, 2.0),)), True),
        (SourceRow("myenv"), False),
        (SourceRow("myenv", is_unchecked=True), True),
        (SourceRow("myenv", error=REFUSED), True),
        (SourceRow("myenv", error=UNFINISHED), True),
        (SourceRow("myenv", error=ErrorFacts.of(NotFound("gone"))), False),
    ],
)
def test_a_source_is_in_doubt_at_a_start_unless_it_was_at_rest_or_gone(
    row: SourceRow, is_in_doubt: bool
) -> None:
    assert TrackedState(row).is_in_doubt is is_in_doubt


def test_a_tolerated_sign_is_no_error_and_is_forgotten_once_it_is_gone() -> None:
    state = checked(source_state.demanded(CHANGED, (SIGN,), NOW), SIGN)
    assert (state.row.tolerated, state.row.error, state.is_changed) == ((SIGN,), None, True)
    assert checked(state, busy="pip (process 7)").row.tolerated == (SIGN,)
    assert checked(state).row.tolerated == ()


def test_an_unfinished_install_stays_noted_through_scans_and_failures() -> None:
    state = checked(CHANGED, SIGN)
    error = state.row.error
    assert error is not None
    assert SIGN in error.message
    state = source_state.scanned(state, "r2", 2, WALL)
    state = source_state.failed(state, SourceRefused("busy"), NOW, SETTLE)
    assert (state.row.revision, state.row.error) == ("r2", error)
    assert source_state.accepted(checked(state)).row.error is None


def test_a_scan_clears_the_error_of_an_earlier_one() -> None:
    state = source_state.failed(KNOWN, SourceRefused("busy"), NOW, SETTLE)
    assert state.row.error is not None
    state = source_state.scanned(state, "r1", 2, WALL)
    assert (state.row.error, state.refusals) == (None, 0)


def test_a_source_that_changes_again_does_not_settle_longer_for_a_failure() -> None:
    state = source_state.failed(CHANGED, SourceRefused("busy"), NOW + 1, SETTLE)
    assert state.row.error is not None
    assert (state.activity, state.refusals) == (CHANGED.activity, 0)


def test_a_person_who_asks_for_a_push_ends_the_growing_pauses() -> None:
    state = KNOWN
    for _ in range(6):
        state = checked(source_state.failed(state, SourceRefused("busy"), NOW, SETTLE))
    state = checked(source_state.demanded(state, (), NOW))
    state = source_state.failed(state, SourceRefused("busy"), NOW, SETTLE)
    assert state.activity.check_seconds == NOW + SETTLE


def test_an_older_report_does_not_replace_the_revision() -> None:
    state = source_state.scanned(KNOWN, "r3", 3, WALL)
    assert source_state.scanned(state, "r2", 2, WALL) == state


def test_a_source_that_is_gone_is_not_checked_again() -> None:
    assert source_state.failed(KNOWN, NotFound("gone"), NOW, SETTLE).activity.is_at_rest
    assert not source_state.failed(KNOWN, SourceRefused("x"), NOW, SETTLE).activity.is_at_rest


def test_a_change_shortens_the_pause_after_refusals() -> None:
    state = KNOWN
    for _ in range(6):
        state = checked(source_state.failed(state, SourceRefused("busy"), NOW, SETTLE))
    state = source_state.failed(state, SourceRefused("busy"), NOW, SETTLE)
    assert state.activity.check_seconds > NOW + 10 * SETTLE
    first = source_state.changed(state, NOW, SETTLE)
    assert first.activity.check_seconds == NOW + MEND_CHECK_SECONDS
    second = source_state.changed(first, NOW + 5, SETTLE)
    assert second.activity.check_seconds == NOW + MEND_CHECK_SECONDS
    assert second.refusals == state.refusals


EVENTS: list[Callable[[TrackedState], TrackedState]] = [
    lambda state: source_state.changed(state, NOW, SETTLE),
    checked,
    lambda state: checked(state, SIGN),
    lambda state: checked(state, busy="pip (process 7)"),
    lambda state: source_state.demanded(state, (SIGN,), NOW),
    lambda state: source_state.scanned(state, "r2", 2, WALL),
    lambda state: source_state.failed(state, SourceRefused("busy"), NOW, SETTLE),
    lambda state: source_state.failed(state, NotFound("gone"), NOW, SETTLE),
]


@given(st.lists(st.sampled_from(EVENTS)))
def test_after_a_hint_nothing_is_pushed_before_a_check_at_rest(
    events: list[Callable[[TrackedState], TrackedState]],
) -> None:
    state = KNOWN
    for event in events:
        state = event(state)
    state = source_state.changed(state, NOW, SETTLE)
    assert state.row.is_unchecked
    assert not state.may_be_pushed
    assert not checked(state, "another sign").may_be_pushed
