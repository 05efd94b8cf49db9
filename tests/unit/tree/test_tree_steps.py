"""Steps of a plan, packed: they come out as they went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envsync.tree.entry import FILE, LINK_GROUP_BYTES, Entry, split
from envsync.tree.steps import COPIES_MAX, Copy, Files, Make, Sizes, copies_alike, packed
from tests.support.trees import few

PATHS = [b"a", b"d/a", b"d/b", b"d/x/a", b"d/c", b"e/\xff\n"]


def made(path: bytes, size_bytes: int = 7) -> Make:
    digest, group = b"%-32s" % path[-32:], b"g" * LINK_GROUP_BYTES if size_bytes % 2 else b""
    return Make(path, Entry(split(path)[1], FILE, 0o644, size_bytes, -5, digest, group))


makes = st.lists(st.builds(made, st.sampled_from(PATHS), st.integers(0, 3)), max_size=8)


@few
@given(makes, makes)
def test_files_come_out_as_they_went_in(first: list[Make], more: list[Make]) -> None:
    files = Files(first) + more
    assert list(files) == first + more
    assert list(files.paths()) == [make.path for make in first + more]
    assert len(files) == len(first + more)
    assert files.size_bytes == sum(make.entry.size_bytes for make in first + more)
    assert files.directories() == {split(make.path)[0] for make in first + more}
    assert all(make in files for make in first)
    assert made(b"another") not in files


@few
@given(makes, st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=8, max_size=8))
def test_copies_come_out_as_they_went_in(files: list[Make], places: list[tuple[int, bool]]) -> None:
    copies = [
        Copy(path, entry, holding, path if is_alike else b"elsewhere/" + path)
        for (path, entry), (holding, is_alike) in zip(files, places, strict=False)
    ]
    parts = list(packed(copies))
    assert [copy for part in parts for copy in part.each()] == copies
    for part in parts:
        each = list(part.each())
        assert (part.files, part.size_bytes) == (len(each), sum(c.entry.size_bytes for c in each))
        assert {split(copy.path)[0] for copy in each} == {part.directory}


def test_a_large_directory_is_several_shares() -> None:
    entries = [made(b"%06d" % number).entry for number in range(2 * COPIES_MAX + 1)]
    parts = list(copies_alike(3, b"d", entries))
    assert [part.files for part in parts] == [COPIES_MAX, COPIES_MAX, 1]
    copies = [copy for part in parts for copy in part.each()]
    assert copies == [Copy(b"d/" + e.name, e, 3, b"d/" + e.name) for e in entries]
    assert [part.files for part in packed(copies)] == [COPIES_MAX, COPIES_MAX, 1]


def test_sizes_come_out_as_they_went_in() -> None:
    sizes = Sizes()
    sizes.add(b"", [b"a", b"\xff\n"], [0, 1 << 56])
    sizes.add(b"nothing", [], [])
    sizes.add(b"d/e", [b"f"], [3])
    assert list(sizes) == [(b"a", 0), (b"\xff\n", 1 << 56), (b"d/e/f", 3)]
    assert len(sizes) == 3
    assert (b"d/e/f", 3) in sizes
    assert (b"d/e/f", 4) not in sizes
    assert not Sizes()
