"""Rules that stop a push until a person confirms."""

from __future__ import annotations

import pytest

from envsync.texts.sizes import size
from envsync.tree.manifest import Totals
from envsync.tree.safety import shrinkage


@pytest.mark.parametrize(
    ("now", "before", "is_ruined"),
    [
        pytest.param(0, 90_000, True, id="emptied"),
        pytest.param(44_000, 90_000, True, id="lost more than half"),
        pytest.param(45_000, 90_000, False, id="lost exactly half"),
        pytest.param(75_000, 90_000, False, id="torch removed"),
        pytest.param(90_000, 90_000, False, id="unchanged"),
        pytest.param(90_000, 0, False, id="first push"),
        pytest.param(0, 200, True, id="a small one emptied"),
        pytest.param(99, 199, False, id="too small to tell"),
        pytest.param(2, 20, True, id="hardly anything is left of a small one"),
        pytest.param(3, 20, False, id="something is left of a small one"),
        pytest.param(0, 9, False, id="there was hardly anything before"),
        pytest.param(199, 399, True, id="lost 200 of 399"),
        pytest.param(0, 0, False, id="nothing of nothing"),
    ],
)
def test_shrinkage(now: int, before: int, is_ruined: bool) -> None:
    found = shrinkage(Totals(now, now, 0), Totals(before, before, 0))
    assert bool(found) is is_ruined
    if found:
        assert found == f"it has {now:,} files, but the target has {before:,}"


BEFORE = Totals(0, 1248, 60_700_000)


@pytest.mark.parametrize(
    ("files", "size_bytes", "is_ruined"),
    [
        pytest.param(1248, 378_000, True, id="all files emptied"),
        pytest.param(1248, 6_000_000, True, id="all but conda's records emptied"),
        pytest.param(1248, 6_100_000, False, id="much was replaced by little"),
        pytest.param(1247, 6_000_000, False, id="one large file removed"),
        pytest.param(1000, 600_000, True, id="less is left than Python"),
    ],
)
def test_source_with_hardly_anything_in_its_files_is_ruined(
    files: int, size_bytes: int, is_ruined: bool
) -> None:
    found = shrinkage(Totals(0, files, size_bytes), BEFORE)
    assert bool(found) is is_ruined
    if found:
        assert found == f"it has {size(size_bytes)}, but the target has 60.7 MB"


def test_small_environment_with_less_in_its_files_is_not_ruined() -> None:
    assert not shrinkage(Totals(0, 9, 0), Totals(0, 9, 99_999))
    assert shrinkage(Totals(0, 2, 2), Totals(0, 17, 379_000))
