"""What makes another revision, what does not, and that `difference` agrees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.tree import revision as revisions
from envsync.tree.difference import difference, removed_files
from envsync.tree.revision import directory_digest, revision_of, source_of
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
    with_parents,
)

CACHE = b"lib/__pycache__/"
ENVIRONMENT = with_parents(
    {
        b"bin/tool": file(b"#!python", 0o755),
        b"bin/python": symlink(b"python3.11"),
        b"lib/m.py": file(b"source"),
        CACHE + b"m.cpython-311.pyc": file(b"cached"),
        CACHE + b"orphan.cpython-311.pyc": file(b"the only code there is"),
        b"share/one": file(b"data", inode=1),
        b"share/two": file(b"data", inode=1),
        b"empty": directory(),
    }
)


def changed(path: bytes, **fields: object) -> dict[bytes, Node]:
    return {**ENVIRONMENT, path: replace(ENVIRONMENT[path], **fields)}  # type: ignore[arg-type]


def without(*paths: bytes) -> dict[bytes, Node]:
    return {path: node for path, node in ENVIRONMENT.items() if path not in paths}


def having(path: bytes, node: Node) -> dict[bytes, Node]:
    return with_parents({**ENVIRONMENT, path: node})


SAME = [
    pytest.param(changed(b"lib/m.py", mtime_ns=1), id="mtime of a file"),
    pytest.param(changed(b"lib", mtime_ns=1), id="mtime of a directory"),
    pytest.param(changed(b"bin/python", mtime_ns=1), id="mtime of a link"),
    pytest.param(changed(b"lib/m.py", mode=0o600), id="read and write bits"),
    pytest.param(changed(b"lib/m.py", mode=0o655), id="execute bits of group and others"),
    pytest.param(changed(b"lib", mode=0o700), id="mode of a directory"),
    pytest.param(changed(b"share/one", inode=0), id="a hard link broken up"),
    pytest.param(changed(CACHE + b"m.cpython-311.pyc", data=b"other"), id="a cache rewritten"),
    pytest.param(without(CACHE + b"m.cpython-311.pyc"), id="a cache removed"),
    pytest.param(having(CACHE + b"m.cpython-312.opt-2.pyc", file()), id="another Python's cache"),
    pytest.param(having(CACHE + b"m.cpython-311.pyc.140213", file()), id="a cache half written"),
    pytest.param(having(CACHE + b"m.cpython-311-pytest-8.3.4.pyc", file()), id="pytest's cache"),
    pytest.param(having(CACHE + b"m.pypy310.pyc", file()), id="PyPy's cache"),
    pytest.param(having(b"bin/__pycache__", directory()), id="an empty cache directory"),
]  # fmt: skip

OTHER = [
    pytest.param(changed(b"lib/m.py", data=b"Source"), id="content"),
    pytest.param(changed(b"lib/m.py", mode=0o744), id="the owner's execute bit set"),
    pytest.param(changed(b"bin/tool", mode=0o655), id="the owner's execute bit cleared"),
    pytest.param(changed(b"bin/python", data=b"python3.12"), id="link target"),
    pytest.param(changed(b"bin/python", kind=1, mode=0o644), id="a link become a file"),
    pytest.param(without(b"share/one"), id="a file removed"),
    pytest.param(without(b"empty"), id="an empty directory removed"),
    pytest.param(having(b"lib/n.py", file()), id="a file added"),
    pytest.param(having(b"empty/er", directory()), id="an empty directory added"),
    pytest.param({**without(b"empty"), b"full": ENVIRONMENT[b"empty"]}, id="a rename"),
    pytest.param(changed(CACHE + b"orphan.cpython-311.pyc", data=b"x"), id="code without source"),
    pytest.param(without(b"lib/m.py"), id="the source of a cache removed"),
    pytest.param(having(CACHE + b"m.txt", file()), id="no cache, though it lies there"),
    pytest.param(having(CACHE + b"m.cpython-311.so", file()), id="a library in a cache directory"),
    pytest.param(having(CACHE + b"below", directory()), id="a directory in a cache directory"),
    pytest.param(having(b"lib/m.cpython-311.pyc", file()), id="a .pyc outside __pycache__"),
    pytest.param({**without(b"share/one"), b"share/one": symlink(b"two")}, id="a link now"),
]  # fmt: skip


@pytest.mark.parametrize("nodes", SAME)
def test_is_the_same_revision(nodes: Tree) -> None:
    before, after = manifest_of(ENVIRONMENT), manifest_of(nodes)
    assert revision_of(before) == revision_of(after)
    assert not difference(before, after)


@pytest.mark.parametrize("nodes", OTHER)
def test_is_another_revision(nodes: Tree) -> None:
    before, after = manifest_of(ENVIRONMENT), manifest_of(nodes)
    assert revision_of(before) != revision_of(after)
    assert difference(before, after)


def test_the_top_directory_is_not_part_of_it() -> None:
    manifest = manifest_of(ENVIRONMENT)
    assert revision_of(manifest._replace(mode=0o700, mtime_ns=5)) == revision_of(manifest)


def test_contents_cannot_be_moved_between_name_and_content() -> None:
    """Lengths are part of the digest, so no two trees share one by concatenation."""
    one, two = {b"a": symlink(b"bc")}, {b"ab": symlink(b"c")}
    assert revision_of(manifest_of(one)) != revision_of(manifest_of(two))


def test_directories_cannot_be_moved() -> None:
    inside = with_parents({b"a/b/x": file(), b"c": directory()})
    moved = with_parents({b"c/b/x": file(), b"a": directory()})
    assert revision_of(manifest_of(inside)) != revision_of(manifest_of(moved))


@few
@given(trees())
def test_a_revision_is_combined_from_its_directories(nodes: dict[bytes, Node]) -> None:
    """So that only changed directories are digested again."""
    directories = manifest_of(nodes).directories
    digests = {path: directory_digest(directories, path) for path in directories}
    assert revisions.combine(digests) == revision_of(manifest_of(nodes))


@few
@given(pairs())
def test_difference_is_empty_exactly_where_revisions_are_equal(
    pair: tuple[dict[bytes, Node], dict[bytes, Node]],
) -> None:
    before, after = map(manifest_of, pair)
    assert bool(difference(before, after)) == (revision_of(before) != revision_of(after))


@few
@given(pairs())
def test_difference_names_what_is_there(
    pair: tuple[dict[bytes, Node], dict[bytes, Node]],
) -> None:
    one, two = pair
    found = difference(manifest_of(one), manifest_of(two))
    back = difference(manifest_of(two), manifest_of(one))
    assert (found.added, found.removed, found.changed) == (back.removed, back.added, back.changed)
    assert found.paths == tuple(sorted(set(found.paths)))
    assert set(found.changed) <= one.keys() & two.keys()
    appeared, vanished = two.keys() - one.keys(), one.keys() - two.keys()
    for path in set(found.added) - appeared | set(found.removed) - vanished:
        # Only a cache file whose source came or went, or a cache directory that was
        # something else, counts on one side without being on that side alone.
        assert b"__pycache__" in path


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (b"spam.cpython-311.pyc", b"spam.py"),
        (b"spam.cpython-38.opt-1.pyc", b"spam.py"),
        (b"spam.cpython-313t.opt-2.pyc", b"spam.py"),
        (b"spam.cpython-311.pyc.139872345", b"spam.py"),
        (b"test_spam.cpython-311-pytest-8.3.4.pyc", b"test_spam.py"),
        (b"test_spam.cpython-312-pytest-9.0.0rc1.pyc.4711", b"test_spam.py"),
        (b"two.dots.cpython-311.pyc", b"two.dots.py"),
        (b"odd\nname.cpython-311.pyc", b"odd\nname.py"),
        (b"\xff.cpython-311.pyc", b"\xff.py"),
        (b"spam.pypy310.pyc", b"spam.py"),
        (b"spam.pypy310.opt-1.pyc", b"spam.py"),
        (b"spam.graalpy240-311.pyc", b"spam.py"),
        (b"spam.pyc", None),
        (b"cpython-311.pyc", None),
        (b".cpython-311.pyc", None),
        (b"spam.cpython-311.pyo", None),
        (b"spam.f-12.py311.nbi", None),
        (b"spam.cpython-311.pyc.tmp", None),
    ],
)
def test_source_of(name: bytes, source: bytes | None) -> None:
    assert source_of(name) == source


PIECES = ["a", "-", "\n", "cpython-311", "pypy310", "opt-1", "opt-2", "pytest-8.1", "1", "py", "é"]


@given(
    st.lists(st.sampled_from([*PIECES, ".", "pyc", "x1"]), max_size=9).map("".join), st.booleans()
)
def test_the_quick_way_to_a_source_is_no_other(name: str, is_cached: bool) -> None:
    """Only the expression knows of every name that Python and pytest give such a file."""
    encoded = name.encode() + b".pyc" * is_cached
    match = revisions._CACHED.match(encoded)
    assert source_of(encoded) == (match.group(1) + b".py" if match else None)


def test_short_is_what_people_see() -> None:
    revision = revision_of(manifest_of({}))
    assert revision.startswith(revisions.short(revision))
    assert len(revisions.short(revision)) == 12


@pytest.mark.parametrize("gone", [b"lib/m.py", b"lib/orphan.py"])
def test_compiled_code_is_no_news_beside_its_source(gone: bytes) -> None:
    """It counts when its source is gone; but it was there before."""
    there = having(b"lib/orphan.py", file(b"source"))
    left = {path: node for path, node in there.items() if path != gone}
    before, after = manifest_of(there), manifest_of(left)
    assert difference(before, after) == ((), (gone,), ())
    assert difference(after, before) == ((gone,), (), ())


@pytest.mark.parametrize(
    ("gone", "files"),
    [
        ((), 0),
        ((b"lib/m.py", CACHE + b"m.cpython-311.pyc"), 2),
        ((CACHE + b"m.cpython-311.pyc",), 0),
        ((b"lib/m.py",), 1),
        ((CACHE + b"orphan.cpython-311.pyc",), 1),
        ((b"share/one", b"bin/python", b"empty"), 1),
        (tuple(ENVIRONMENT), 6),
    ],
)
def test_files_are_removed_but_for_bytecode_that_is_made_anew(
    gone: tuple[bytes, ...], files: int
) -> None:
    assert removed_files(manifest_of(ENVIRONMENT), manifest_of(without(*gone))) == files
    assert removed_files(manifest_of(without(*gone)), manifest_of(ENVIRONMENT)) == 0
