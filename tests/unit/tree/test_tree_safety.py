"""Rules that stop a push until a person confirms."""

from __future__ import annotations

import pytest
from hypothesis import given

from envsync.texts.sizes import size
from envsync.tree.entry import FILE
from envsync.tree.manifest import Totals
from envsync.tree.safety import HOLLOW_FILES_MIN, hollowness, shrinkage
from tests.support.trees import Tree, file, manifest_of, pairs, symlink, with_parents


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
        pytest.param(99, 198, False, id="a small one lost exactly half"),
        pytest.param(99, 199, True, id="a small one lost more than half"),
        pytest.param(50, 149, False, id="a smaller one, of which a third is left"),
        pytest.param(110, 300, True, id="of a few tools, most are gone"),
        pytest.param(20, 150, True, id="of a few tools, hardly anything is left"),
        pytest.param(5, 20, True, id="a quarter is left of a tiny one"),
        pytest.param(6, 20, False, id="more than a quarter is left of a tiny one"),
        pytest.param(0, 9, False, id="there was hardly anything before"),
        pytest.param(0, 0, False, id="nothing of nothing"),
    ],
)
def test_shrinkage(now: int, before: int, is_ruined: bool) -> None:
    found = shrinkage(Totals(now, now, 0), Totals(before, before, 0))
    assert bool(found) is is_ruined
    if found:
        assert (
            found == f"the source looks ruined: it has {now:,} files, but the target has {before:,}"
        )


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
        assert (
            found
            == f"the source looks ruined: it has {size(size_bytes)}, but the target has 60.7 MB"
        )


def test_small_environment_with_less_in_its_files_is_not_ruined() -> None:
    assert not shrinkage(Totals(0, 9, 0), Totals(0, 9, 99_999))
    assert shrinkage(Totals(0, 2, 2), Totals(0, 17, 379_000))


def environment(
    sizes: int, name: bytes = b"lib/m%d.py", data: bytes = b"x", records: bytes = b"{}"
) -> Tree:
    """An environment with `sizes` such files beside others, in two directories."""
    numbered = {name % number: file(data) for number in range(sizes)}
    rest = {b"lib/py.typed": file(), b"lib/other.py": file(b"other"), b"bin/tool": file(b"#!")}
    conda = {b"conda-meta/history": file(b"=="), b"conda-meta/a-1-0.json": file(records)}
    return with_parents({**numbered, **rest, **conda})


def ruin(now: Tree, before: Tree) -> str:
    return hollowness(manifest_of(now), manifest_of(before))


def test_many_files_without_the_content_that_they_had_are_a_ruin() -> None:
    before = environment(20)
    assert ruin(environment(20, data=b""), before) == (
        "the source looks ruined: 20 files are empty that have content on the target"
    )
    assert not ruin(environment(19, data=b""), before)
    assert not ruin(before, environment(20, data=b""))
    assert not ruin(environment(20, data=b""), environment(20, data=b""))


@pytest.mark.parametrize("name", [b"lib/p%d/__init__.py", b"new/empty-%d"])
def test_files_that_an_upgrade_leaves_empty_are_no_ruin(name: bytes) -> None:
    before = environment(99, b"lib/p%d/__init__.py")
    assert not ruin({**before, **environment(99, name, data=b"")}, before)


def test_what_was_no_file_before_was_not_emptied() -> None:
    before = {path: symlink(b"x") for path in environment(30) if path.startswith(b"lib/m")}
    assert not ruin(environment(30, data=b""), {**environment(30), **before})


def test_source_without_the_package_records_that_it_had_is_a_ruin() -> None:
    whole, emptied = environment(1), environment(1, records=b"")
    gone = {path: node for path, node in whole.items() if not path.endswith(b".json")}
    for now in (gone, emptied):
        assert ruin(now, whole) == (
            "the source looks ruined: it has no package record in conda-meta, but the target has 1"
        )
        assert not ruin(now, gone)
    assert not ruin(whole, gone)
    other = {**gone, b"conda-meta/b-2-0.json": file(b"{}")}
    assert not ruin(other, whole)


@given(pairs())
def test_emptied_files_are_counted_wherever_they_are(pair: tuple[Tree, Tree]) -> None:
    """By the paths alone, with nothing left out by directory."""
    now, before = pair
    many = {b"m%d" % number: file(b"x") for number in range(HOLLOW_FILES_MIN - 1)}
    emptied = {path: file() for path in many}
    both = [path for path in now if path in before and now[path].kind == before[path].kind == FILE]
    is_more = any(before[path].data and not now[path].data for path in both)
    assert bool(ruin({**now, **emptied}, {**before, **many})) is is_more
