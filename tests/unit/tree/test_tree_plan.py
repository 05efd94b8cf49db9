"""The plan: carrying it out turns any staging tree into the wanted one.

`Disk` is a file system that knows no mercy: it refuses to remove what is not there, to
make what is, to write without a directory, and it knows one file under several names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.tree.entry import DIRECTORY, FILE, SYMLINK, Entry, check_name, split
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.plan import STAGED, plan
from envsync.tree.steps import Copy, Plan
from tests.support.trees import (
    Node,
    Tree,
    directory,
    few,
    file,
    manifest_of,
    pairs,
    symlink,
    trees,
    variants,
    walk,
    with_parents,
)


@dataclass
class _Inode:
    node: Node


class Disk:
    """A tree in memory that is changed step by step."""

    def __init__(self, nodes: Tree) -> None:
        shared = {node.inode: _Inode(node) for node in nodes.values() if node.inode}
        self._at = {path: shared.get(node.inode) or _Inode(node) for path, node in nodes.items()}

    def remove(self, path: bytes) -> None:
        node = self._at[path].node
        if node.kind == DIRECTORY:
            below = [other for other in self._at if other.startswith(path + b"/")]
            assert not below, f"{path!r} is not empty: {below}"
        del self._at[path]

    def make(self, path: bytes, node: Node) -> None:
        parent = split(path)[0]
        assert path not in self._at, f"{path!r} is there"
        assert not parent or self._at[parent].node.kind == DIRECTORY
        self._at[path] = _Inode(replace(node, inode=0))

    def link(self, path: bytes, leader: bytes) -> None:
        assert path not in self._at
        assert self._at[leader].node.kind == FILE
        self._at[path] = self._at[leader]

    def stamp(self, path: bytes, entry: Entry) -> None:
        inode = self._at[path]
        inode.node = replace(inode.node, mode=entry.mode, mtime_ns=entry.mtime_ns)

    def read(self, path: bytes) -> bytes:
        assert self._at[path].node.kind == FILE
        return self._at[path].node.data

    def tree(self) -> dict[bytes, Node]:
        numbers: dict[int, int] = {}
        return {
            path: replace(inode.node, inode=numbers.setdefault(id(inode), 1 + len(numbers)))
            for path, inode in self._at.items()
        }


def carry_out(work: Plan, wanted: Tree, staged: Tree, holdings: Sequence[Tree]) -> Tree:
    """The steps in the order that the plan promises; the source is `wanted`."""
    disk = Disk(staged)
    for make in work.remove:
        disk.remove(make.path)
    for make in work.directories:
        disk.make(make.path, directory())
    for make in work.symlinks:
        disk.make(make.path, wanted[make.path])
    for copy in copies_of(work):
        data = holdings[copy.holding][copy.source].data
        disk.make(copy.path, file(data, copy.entry.mode, copy.entry.mtime_ns))
    for make in work.fetches:
        disk.make(make.path, wanted[make.path])
    for copy in work.repeats:
        assert copy.holding == STAGED
        disk.make(copy.path, file(disk.read(copy.source), copy.entry.mode, copy.entry.mtime_ns))
    for link in work.links:
        disk.link(link.path, link.leader)
    directories = [m for m in walk(manifest_of(wanted)) if m[1].kind == DIRECTORY]
    for path, entry in [*work.restamp, *directories]:
        disk.stamp(path, entry)
    return disk.tree()


@st.composite
def situations(draw: st.DrawFn) -> tuple[Tree, Tree, list[Tree]]:
    """A source, a staging tree, and holdings: related to each other, or not at all."""
    wanted, staged = draw(pairs())
    holding = st.one_of(variants(wanted), variants(staged), trees())
    return wanted, staged, draw(st.lists(holding, max_size=2))


def copies_of(work: Plan) -> list[Copy]:
    return [copy for copies in work.copies for copy in copies.each()]


def plan_of(wanted: Tree, staged: Tree, holdings: Sequence[Tree] = ()) -> Plan:
    return plan(manifest_of(wanted), manifest_of(staged), [manifest_of(tree) for tree in holdings])


@few
@given(situations())
def test_carrying_it_out_yields_the_wanted_tree(case: tuple[Tree, Tree, list[Tree]]) -> None:
    wanted, staged, holdings = case
    result = carry_out(plan_of(wanted, staged, holdings), wanted, staged, holdings)
    assert manifest_of(result) == manifest_of(wanted)


@few
@given(situations())
def test_planning_twice_is_empty(case: tuple[Tree, Tree, list[Tree]]) -> None:
    wanted, staged, holdings = case
    result = carry_out(plan_of(wanted, staged, holdings), wanted, staged, holdings)
    assert not any(plan_of(wanted, result, holdings))
    assert not any(plan_of(wanted, wanted))


@few
@given(situations())
def test_plan_names_nothing_outside_and_nothing_twice(
    case: tuple[Tree, Tree, list[Tree]],
) -> None:
    wanted, staged, holdings = case
    work = plan_of(wanted, staged, holdings)
    made = [make.path for part in (work.directories, work.symlinks, work.fetches) for make in part]
    made += [step.path for part in (copies_of(work), work.repeats) for step in part]
    made += [link.path for link in work.links]
    removed = [make.path for make in work.remove]
    stamped = [make.path for make in work.restamp]
    for paths in (made, removed, stamped):
        assert len(paths) == len(set(paths))
        for path in paths:
            for name in path.split(b"/"):
                check_name(name)
    assert set(made) <= wanted.keys()
    assert set(removed) <= staged.keys()
    assert not set(stamped) & {*made, *removed}


@few
@given(situations())
def test_content_that_nothing_holds_is_fetched_once(
    case: tuple[Tree, Tree, list[Tree]],
) -> None:
    wanted, staged, holdings = case
    work = plan_of(wanted, staged, holdings)
    fetched = [make.entry.content for make in work.fetches]
    held = {
        entry.content
        for tree in holdings
        for _, entry in walk(manifest_of(tree))
        if entry.kind == FILE
    }
    assert len(fetched) == len(set(fetched))
    assert not held & set(fetched)
    for copy in copies_of(work):
        source = manifest_of(holdings[copy.holding]).find(copy.source)
        assert source is not None
        assert source.content == copy.entry.content


@few
@given(situations())
def test_file_that_is_already_right_is_in_no_step(case: tuple[Tree, Tree, list[Tree]]) -> None:
    """A file that is already right, with its mode and time, appears in no step."""
    wanted, staged, holdings = case
    work = plan_of(wanted, staged, holdings)
    one, two = manifest_of(wanted), manifest_of(staged)
    steps = (*work.remove, *work.directories, *work.symlinks, *work.fetches, *work.restamp)
    named = {step.path for step in (*steps, *copies_of(work), *work.repeats, *work.links)}
    for path, entry in walk(one):
        if two.find(path) == entry and not entry.link_group:
            assert path not in named


def test_new_bytes_and_inodes_are_what_it_takes() -> None:
    wanted = with_parents(
        {
            b"d/held": file(b"1234567"),
            b"d/new": file(b"12345"),
            b"d/again": file(b"12345"),
            b"l": symlink(b"d"),
            b"one": file(b"123", inode=1),
            b"two": file(b"123", inode=1),
        }
    )
    work = plan_of(wanted, {}, [{b"elsewhere": file(b"1234567")}])
    assert (work.fetch_bytes(), work.copy_bytes(), work.new_bytes()) == (8, 12, 20)
    assert work.new_inodes() == 6
    assert not any(plan(EMPTY, EMPTY))


def test_the_same_path_and_the_earlier_holding_are_preferred() -> None:
    wanted = {b"b": file(b"x")}
    both = {b"a": file(b"x"), b"b": file(b"x")}
    assert _sources(plan_of(wanted, {}, [both])) == [(0, b"b")]
    assert _sources(plan_of(wanted, {}, [{b"a": file(b"x")}, both])) == [(0, b"a")]
    assert _sources(plan_of(wanted, {}, [{}, both])) == [(1, b"b")]
    same = with_parents({b"d/1": file(b"x"), b"d/2": file(b"x")})
    assert _sources(plan_of(same, {}, [same, both])) == [(0, b"d/1"), (0, b"d/2")]
    other = {**same, b"d/2": symlink(b"x"), b"d/3": file(b"x")}
    assert _sources(plan_of(same, {}, [other])) == [(0, b"d/1"), (0, b"d/1")]


def _sources(work: Plan) -> list[tuple[int, bytes]]:
    return [(copy.holding, copy.source) for copy in copies_of(work)]


KINDS = {
    "nothing": {},
    "file": {b"x": file(b"data")},
    "program": {b"x": file(b"data", 0o755)},
    "other file": {b"x": file(b"other")},
    "symlink": {b"x": symlink(b"y")},
    "other symlink": {b"x": symlink(b"z")},
    "empty directory": {b"x": directory()},
    "full directory": with_parents({b"x/y/z": file(b"data"), b"x/l": symlink(b"y")}),
    "linked": {b"x": file(b"data", inode=1), b"y": file(b"data", inode=1)},
}


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
def test_any_kind_becomes_any_other(before: str, after: str) -> None:
    wanted, staged = KINDS[after], KINDS[before]
    result = carry_out(plan_of(wanted, staged), wanted, staged, [])
    assert manifest_of(result) == manifest_of(wanted)
    assert any(plan_of(wanted, staged)) is (before != after)


def linked(*groups: str, data: bytes = b"data", mtime_ns: int = 0) -> dict[bytes, Node]:
    """Names of one letter: those in one word are one file. Capitals live in a directory."""
    nodes: dict[bytes, Node] = {}
    for number, group in enumerate(groups, start=1):
        for letter in group:
            path = b"D/" + letter.encode() if letter.isupper() else letter.encode()
            nodes[path] = file(data, mtime_ns=mtime_ns, inode=number)
    return with_parents(nodes)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(linked("a", "b"), linked("ab"), id="two become one"),
        pytest.param(linked("ab"), linked("a", "b"), id="one becomes two"),
        pytest.param(linked("ab"), linked("abc"), id="a further name"),
        pytest.param(linked("bc"), linked("abc"), id="a further name, now the first"),
        pytest.param(linked("abc"), linked("ab"), id="the last name gone"),
        pytest.param(linked("abc"), linked("bc"), id="the first name gone"),
        pytest.param(linked("abc"), linked("a"), id="one name left"),
        pytest.param(linked("ab"), linked("cd"), id="all names others"),
        pytest.param(linked("ab", "cd"), linked("ac", "bd"), id="partners swapped"),
        pytest.param(linked("abcd"), linked("ab", "cd"), id="split into two"),
        pytest.param(linked("ab", "cd"), linked("abcd"), id="two made one"),
        pytest.param(linked("ab", "cd"), linked("ad", "bc"), id="crossed"),
        pytest.param(linked("aB"), linked("aBC"), id="across directories"),
        pytest.param(linked("ABC"), linked("AC"), id="the middle one gone"),
        pytest.param(linked("aBC"), linked("aB"), id="a directory that does not change"),
        pytest.param(linked("ab"), linked("ab", data=b"other"), id="content changed"),
        pytest.param(linked("ab"), linked("ab", mtime_ns=5), id="time changed"),
        pytest.param(linked("ab"), {**linked("a"), b"b": symlink(b"a")}, id="a name become a link"),
        pytest.param(linked("ab"), {**linked("a"), b"b": directory()}, id="... or a directory"),
        pytest.param({b"b": directory(), b"a": file(b"data")}, linked("ab"), id="and back"),
        pytest.param({}, linked("ab", "cd"), id="two groups of one content"),
    ],
)
def test_hard_link_groups_change_in_every_way(before: Tree, after: Tree) -> None:
    for holdings in ([], [before], [after]):
        result = carry_out(plan_of(after, before, holdings), after, before, holdings)
        assert manifest_of(result) == manifest_of(after)


def test_a_group_is_fetched_once() -> None:
    work = plan_of(linked("abc"), {})
    assert [make.path for make in work.fetches] == [b"a"]
    assert [(link.path, link.leader) for link in work.links] == [(b"b", b"a"), (b"c", b"a")]


def test_untouched_groups_cost_nothing() -> None:
    """Many groups in a directory where something else changed."""
    before = linked("ab", "cd", "EF")
    assert [len(part) for part in plan_of({**before, b"z": file()}, before)] == [
        0, 0, 0, 0, 1, 0, 0, 0,
    ]  # fmt: skip


def test_directories_that_are_equal_are_not_decoded() -> None:
    same = manifest_of(with_parents({b"d/x": file(b"1")}))
    broken = {**same.directories, b"d": b"not a listing"}
    assert not any(plan(Manifest(broken, 0o755, 0), Manifest(broken, 0o755, 0)))


def test_a_link_is_never_followed() -> None:
    """What is below a symlink's target is neither removed nor compared."""
    work = plan_of({b"x": symlink(b"/etc")}, with_parents({b"x/passwd": file(b"root")}))
    assert [make.path for make in work.remove] == [b"x/passwd", b"x"]
    assert [make.entry.kind for make in work.symlinks] == [SYMLINK]
