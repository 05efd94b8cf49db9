from __future__ import annotations

import pytest

from envsync.cli.output import wording


def test_count_has_its_noun_in_singular_or_plural() -> None:
    assert wording.count(1, "file") == "1 file"
    assert wording.count(61_204, "file") == "61,204 files"
    assert wording.count(2, "process uses it", "processes use it") == "2 processes use it"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.84, "0.8 s"), (99.9, "99.9 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")],
)
def test_duration_is_worded(seconds: float, shown: str) -> None:
    assert wording.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 min"),
        (3600, "1 h"),
        (47 * 3600, "47 h"),
        (86400 * 12, "12 days"),
    ],
)
def test_age_is_worded(seconds: float, shown: str) -> None:
    assert wording.age(1e9 - seconds, now_seconds=1e9) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "+0.2 s"), (-12, "-12.0 s"), (-0.04, "+0.0 s"), (0, "+0.0 s")]
)
def test_clock_offset_is_worded(seconds: float, shown: str) -> None:
    assert wording.offset(seconds) == shown
