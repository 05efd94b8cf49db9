"""A tree divided among processes: everything is looked at by one of them, and about as much."""

from __future__ import annotations

import pytest

from envsync.agent.trees import partition as division_
from envsync.agent.trees.partition import Partition, partition
from envsync.agent.trees.stat_rows import NO_ROWS, Row, pack, row_count
from envsync.tree.entry import join, split


def rows(count: int) -> bytes:
    return pack([Row(b"%06d" % n, 0o100644, n, 0, 0, 0, 1) for n in range(count)])


TREES = {
    "empty": {b"": NO_ROWS},
    "one directory": {b"": rows(1000)},
    "many alike": {b"": NO_ROWS, **{b"d%d" % n: rows(20) for n in range(200)}},
    "a large one below": {
        b"": NO_ROWS,
        b"lib": rows(3),
        b"lib/site": rows(1),
        b"lib/site/large": rows(900),
        **{b"lib/site/p%d" % n: rows(n) for n in range(60)},
        **{b"lib/site/p%d/below" % n: rows(n) for n in range(60)},
        b"share": rows(40),
    },
}


def looked_at(found: Partition, directories: dict[bytes, bytes]) -> list[bytes]:
    """The directories whose entries somebody looks at, as often as somebody does."""
    seen = list(found.upper)
    for part in found.parts:
        for piece in part:
            seen += [d for d in directories if d == piece or d.startswith(piece + b"/")]
    return sorted(seen)


@pytest.mark.parametrize("name", TREES)
def test_partition_covers_a_tree_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division_, "ENTRIES_MIN", 0)
    tree = TREES[name]
    found = partition(tree)
    if b"" in [piece for part in found.parts for piece in part]:
        assert found.parts == ((b"",),)
    else:
        assert looked_at(found, tree) == sorted(tree)
    assert all(split(path)[0] in found.upper for path in found.upper if path)


@pytest.mark.parametrize("name", ["many alike", "a large one below"])
def test_in_parts_of_about_equal_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division_, "ENTRIES_MIN", 0)
    tree = TREES[name]
    sizes = [
        sum(
            row_count(packed)
            for path, packed in tree.items()
            for piece in part
            if path == piece or path.startswith(join(piece, b""))
        )
        for part in partition(tree).parts
    ]
    assert len(sizes) == division_.PARTS
    largest = max(row_count(packed) for packed in tree.values())
    assert max(sizes) - min(sizes) <= largest


def test_small_tree_is_not_divided() -> None:
    assert partition(TREES["a large one below"]) == Partition()
