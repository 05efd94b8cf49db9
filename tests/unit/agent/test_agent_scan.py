"""One pass over a real directory: what it sees, what it leaves out, what it notices."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.agent.operations.helper_work import carry_out
from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.trees.directory_read import open_directory, walk
from envsync.agent.trees.open_tree import OpenTree
from envsync.agent.trees.removal import remove_tree
from envsync.agent.trees.scan import are_directories_unchanged, scan, scan_touched
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.stat_rows import has_names_elsewhere, unpack
from envsync.errors import SourceRefused
from envsync.tree import manifest as manifests
from envsync.tree.entry import join
from envsync.tree.local import LocalPaths
from tests.support import disk
from tests.support.changes import CHANGES, TREE, Change
from tests.support.disk import memory
from tests.support.ordinary_user import ordinary_user
from tests.support.processes import wait_until_alone
from tests.support.trees import file, with_parents


def look(top: bytes, local: LocalPaths | None = None) -> Scan:
    fd = open_directory(top)
    try:
        return scan(OpenTree(fd, LocalPaths() if local is None else local))
    finally:
        os.close(fd)


def paths(scanned: Scan) -> set[bytes]:
    return {
        join(path, row.name) for path, rows in scanned.directories.items() for row in unpack(rows)
    }


def test_sees_every_entry(top: bytes) -> None:
    seen = look(top)
    assert paths(seen) == TREE.keys()
    assert seen.entries == len(TREE)
    assert seen.inode == os.stat(top).st_ino
    assert seen.directories.keys() == {b"", b"bin", b"lib", b"lib/below", b"empty"}


def test_names_that_files_have_elsewhere(top: bytes) -> None:
    assert not has_names_elsewhere(look(top).directories)
    os.link(top + b"/lib/m.py", top + b"/bin/again")
    assert not has_names_elsewhere(look(top).directories), "all of its names are in the tree"
    os.link(top + b"/lib/m.py", top + b"-cached")
    assert has_names_elsewhere(look(top).directories)
    os.unlink(top + b"/bin/again")
    assert has_names_elsewhere(look(top).directories)


def test_names_that_links_have_elsewhere(top: bytes) -> None:
    os.symlink("lib", top + b"/link")
    os.link(top + b"/link", top + b"-copied", follow_symlinks=False)
    assert has_names_elsewhere(look(top).directories)


def test_a_deep_tree_that_is_renamed_away_is_forgotten(top: bytes) -> None:
    for depth in range(1, sys.getrecursionlimit() + 50):  # os.makedirs recurses
        os.mkdir(top + b"/d" * depth)
    before = look(top)
    try:
        os.rename(top + b"/d", top + b"-moved")
        fd = open_directory(top)
        try:
            now = scan_touched(OpenTree(fd, LocalPaths()), before, [b""])
        finally:
            os.close(fd)
        assert now.signature == look(top).signature
    finally:
        remove_tree(top + b"-moved")


def test_two_looks_at_the_same_are_the_same(top: bytes) -> None:
    assert look(top).signature == look(top).signature


@pytest.mark.parametrize("path", [b"", b"/lib", b"/lib/m.py", b"/link"])
@pytest.mark.parametrize("seconds", [1 << 34, -(1 << 34), 1 << 40])
def test_times_that_64_bits_do_not_hold(path: bytes, seconds: int, top: bytes) -> None:
    """Where the filesystem keeps such a one, its nearest is sent; a later look is the same."""
    os.symlink("lib", top + b"/link")
    os.utime(top + path, (seconds, seconds), follow_symlinks=False)
    manifest = disk.uncached().snapshot(top).manifest()
    assert manifests.decode(manifests.encode(manifest)) == manifest
    found = manifest.find(path[1:]) if path else None
    mtime_ns = manifest.mtime_ns if found is None else found.mtime_ns
    kept_ns = os.lstat(top + path).st_mtime_ns
    assert mtime_ns == max(1 - (1 << 63), min((1 << 63) - 1, kept_ns))
    before = look(top)
    fd = open_directory(top)
    assert are_directories_unchanged(fd, before) or path == b"/lib"
    os.close(fd)
    assert look(top).signature == before.signature


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_scan_notices_a_change(change: Change, top: bytes) -> None:
    before = look(top).signature
    change(top)
    assert look(top).signature != before


def test_does_not_notice_reading_renaming_the_whole_or_local_paths(top: bytes) -> None:
    disk.build(top, with_parents({b"conda-meta/state": file(), b"conda-meta/history": file()}))
    before = look(top)
    disk.read(top)
    Path(os.fsdecode(top), "conda-meta/state").write_text("{}")
    os.rename(top, top + b"2")
    assert look(top + b"2").signature == before.signature


def test_local_paths_are_named_and_left_out(top: bytes) -> None:
    disk.build(top, with_parents({b"conda-meta/state": file(), b"conda-meta/history": file()}))
    seen = look(top)
    assert seen.local == (b"conda-meta/state",)
    assert paths(seen) == {*TREE, b"conda-meta", b"conda-meta/history"}


def test_directories_that_hold_only_local_paths_are_local(top: bytes) -> None:
    before = look(top)
    disk.build(
        top, with_parents({b"var/cache/fontconfig/x/y": file(), b"etc/jupyter/migrated": file()})
    )
    seen = look(top)
    assert seen.local == (b"etc", b"var")
    assert (paths(seen), seen.entries) == (paths(before), before.entries)
    assert seen.directories.keys() == before.directories.keys()


def test_a_directory_that_holds_more_is_not(top: bytes) -> None:
    disk.build(top, with_parents({b"var/cache/fontconfig/x": file(), b"var/cache/kept": file()}))
    seen = look(top)
    assert seen.local == (b"var/cache/fontconfig",)
    assert {b"var", b"var/cache", b"var/cache/kept"} <= paths(seen)


def test_everything_may_be_local(top: bytes) -> None:
    seen = look(top, LocalPaths(["**"]))
    assert (len(paths(seen)), seen.entries, list(seen.directories)) == (0, 0, [b""])
    assert seen.local == (b"bin", b"empty", b"lib")


def test_remains_of_nfs_are_nothing(top: bytes) -> None:
    before = look(top)
    disk.write(top + b"/lib/.nfs000000000001", b"still open somewhere")
    assert paths(look(top)) == paths(before)
    os.mkdir(top + b"/.nfs-but-a-directory")
    assert b".nfs-but-a-directory" in paths(look(top))


def test_pipes_and_sockets_are_named_and_left_out(top: bytes) -> None:
    os.mkfifo(top + b"/pipe")
    here = os.open(top, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/socket")  # the whole path may be too long for one
        os.close(here)
        seen = look(top)
    assert seen.special == (b"pipe", b"socket")
    assert paths(seen) == TREE.keys()


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600, 0o400])
def test_a_directory_that_may_not_be_read_is_refused_by_name(mode: int, top: bytes) -> None:
    os.chmod(top, 0o755)
    fd = open_directory(top)
    os.chmod(top + b"/bin", mode)
    try:
        with ordinary_user(), pytest.raises(SourceRefused, match="bin") as refused:
            scan(OpenTree(fd, LocalPaths()))
        assert "chmod" in refused.value.hint
    finally:
        os.close(fd)
        os.chmod(top + b"/bin", 0o755)


def test_names_that_are_no_text(top: bytes) -> None:
    odd = {b"\xff\xfe": file(), b"new\nline": file(), b" ": file(), "ü".encode("latin-1"): file()}
    disk.build(top, odd)
    assert odd.keys() <= paths(look(top))


@pytest.fixture
def deep_top() -> Iterator[bytes]:
    """A directory for trees so deep that pytest could not clear them away."""
    path = os.fsencode(tempfile.mkdtemp(dir=memory()))
    yield path
    remove_tree(path)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("name", "depth"), [(b"x" * 250, 15), (b"x", 1990)], ids=["long names", "many directories"]
)
def test_paths_near_the_limit(name: bytes, depth: int, deep_top: bytes) -> None:
    deepest = make_deep(deep_top, name, depth)
    assert 3700 < len(deepest) < 4096
    assert deepest in paths(look(deep_top))


def test_a_path_beyond_the_limit_is_refused_by_its_end(deep_top: bytes) -> None:
    make_deep(deep_top, b"x" * 250, 18)
    try:
        with pytest.raises(SourceRefused, match=r"too long: .*xxx"):
            look(deep_top)
    finally:
        half = deep_top + b"/".join([b"", *[b"x" * 250] * 9])
        os.rename(half, deep_top + b"/half")


def make_deep(top: bytes, name: bytes, depth: int) -> bytes:
    """A file below so many directories of one name; made step by step, as no path is so long."""
    fd = open_directory(top)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = open_directory(name, fd)
        os.close(fd)
        fd = below
    os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
    os.close(fd)
    return b"/".join([name] * depth + [b"file"])


def test_a_directory_behind_a_link_is_not_entered(top: bytes) -> None:
    os.symlink(b"lib", top + b"/behind")
    assert b"behind/m.py" not in paths(look(top))
    with pytest.raises(OSError, match=r".*"):
        open_directory(top + b"/behind")


# --- helpers ----------------------------------------------------------------------------


def _answer(request: object) -> object:
    if request == "die":
        os._exit(9)
    return request


@pytest.fixture
def helpers() -> Iterator[HelperProcesses]:
    wait_until_alone()
    forked = HelperProcesses.fork(_answer, caller_shares=False)
    yield forked
    forked.close()


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_an_answer_that_nobody_waited_for_is_nobody_elses(
    size: int, helpers: HelperProcesses
) -> None:
    """Nor does it keep the helper from reading the next request, if both fill their pipes."""
    helpers.begin(0, "given up" * size)
    helpers.begin(0, "asked for" * size)
    assert helpers.finish(0) == "asked for" * size
    assert helpers.finish(0) is None, "as there is no other"


def test_a_helper_that_died_gives_nothing(helpers: HelperProcesses) -> None:
    for request in ("die", "anything"):
        helpers.begin(0, request)
        assert helpers.finish(0) is None


@pytest.mark.parametrize("caller_shares", [True, False])
def test_helpers_see_what_one_alone_sees(caller_shares: bool, tmp_path: Path) -> None:
    for number in range(100):
        directory = tmp_path / f"top-{number % 10}" / f"é-{number}"
        directory.mkdir(parents=True)
        (directory / "file").write_text(str(number))
        (directory / "local").write_text("mine")
    fd = open_directory(os.fsencode(tmp_path))
    wait_until_alone()
    forked = HelperProcesses.fork(carry_out, caller_shares)
    try:
        local = LocalPaths(["**/local"])
        alone = scan(OpenTree(fd, local))
        together = scan(OpenTree(fd, local, os.fsencode(tmp_path), forked))
        assert together._replace(moment=alone.moment) == alone
        assert len(alone.local) == 100
    finally:
        forked.close()
        os.close(fd)


def test_walk_yields_the_rest_of_a_directory_in_which_an_entry_vanishes(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / name).touch()
    walking = walk(os.fsencode(tmp_path))
    seen = {next(walking)[0]}
    gone = min({os.fsencode(path.name) for path in tmp_path.iterdir()} - seen)
    (tmp_path / os.fsdecode(gone)).unlink()
    seen.update(path for path, _ in walking)
    assert seen == {b"a", b"b", b"c", b"d", b"e", b"f"} - {gone}
