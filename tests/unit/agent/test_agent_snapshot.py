"""Snapshots: the manifest of a real tree, and what is known of it from the time before."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from envsync.agent.server import filesystem
from envsync.agent.trees import content_cache
from envsync.agent.trees.directory_read import open_directory
from envsync.agent.trees.trees import Trees
from envsync.tree.entry import split
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of
from tests.support import disk
from tests.support.changes import CHANGES, TREE_BYTES, Change
from tests.support.disk import truth
from tests.support.trees import Node, manifest_of, totals_of, trees


@settings(max_examples=10)
@given(trees())
def test_snapshot_is_the_tree(nodes: dict[bytes, Node]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = os.fsencode(directory)
        disk.build(top, nodes)
        found = disk.uncached().snapshot(top)
    assert found.manifest().directories == manifest_of(nodes).directories
    assert found.revision == revision_of(manifest_of(nodes))
    assert found.totals == totals_of(manifest_of(nodes))


def test_second_snapshot_hashes_nothing(looks: Trees, top: bytes) -> None:
    first, second = looks.snapshot(top), looks.snapshot(top)
    assert (first.hashed_bytes, second.hashed_bytes) == (TREE_BYTES, 0)
    assert second.manifest() == first.manifest() == truth(top)
    assert (second.revision, second.totals) == (first.revision, first.totals)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_cached_snapshot_never_hides_a_change(change: Change, looks: Trees, top: bytes) -> None:
    looks.snapshot(top)
    change(top)
    after = looks.snapshot(top)
    assert after.manifest() == truth(top)
    assert after.revision == revision_of(after.manifest())
    assert after.totals == totals_of(after.manifest())


def test_only_files_that_changed_are_hashed(looks: Trees, top: bytes) -> None:
    looks.snapshot(top)
    disk.write(top + b"/lib/new", b"12345")
    assert looks.snapshot(top).hashed_bytes == 5


def test_a_tree_is_known_under_another_name(looks: Trees, top: bytes) -> None:
    """As every tree is after it was published."""
    looks.snapshot(top)
    os.rename(top, top + b"2")
    assert looks.snapshot(top + b"2").hashed_bytes == 0


def test_other_local_paths_are_another_tree(cache: str, looks: Trees, top: bytes) -> None:
    whole = looks.snapshot(top)
    part = Trees(cache, LocalPaths(["lib"])).snapshot(top)
    assert part.revision != whole.revision
    assert looks.snapshot(top).revision == whole.revision


def test_snapshot_that_is_stored_later_is_there_for_the_next_look(cache: str, top: bytes) -> None:
    looks, others = Trees(cache, LocalPaths()), Trees(cache, LocalPaths())
    with looks.storing_later():
        assert looks.snapshot(top).hashed_bytes == TREE_BYTES
        assert looks.snapshot(top).hashed_bytes == 0, "whoever asks here finds it"
        disk.write(top + b"/lib/new", b"12345")
        assert looks.snapshot(top).hashed_bytes == 5
    assert others.snapshot(top).hashed_bytes == 5, "what was asked for here is known everywhere"
    disk.write(top + b"/lib/later", b"123456")
    with looks.storing_later():
        looks.snapshot(top)
    looks.close()
    assert others.snapshot(top).hashed_bytes == 0


def test_links_from_elsewhere_do_not_rehash(looks: Trees, top: bytes) -> None:
    """`conda create --clone` links every file; its ctime and link count change, no byte does."""
    looks.snapshot(top)
    os.link(top + b"/lib/m.py", top + b"-clone")
    assert looks.snapshot(top).hashed_bytes == 0
    assert looks.snapshot(top, fresh=True).hashed_bytes == TREE_BYTES


def _renamed(top: bytes) -> None:
    os.rename(top + b"/lib", top + b"/zlib")


def _moved_out(top: bytes) -> None:
    os.rename(top + b"/lib", top + b"-lib")


def _moved_in(top: bytes) -> None:
    os.rename(top + b"-other", top + b"/other")


def _replaced(top: bytes) -> None:
    os.rename(top + b"/lib", top + b"-lib")
    os.rename(top + b"/empty", top + b"/lib")


def _exchanged(top: bytes) -> None:
    os.rename(top + b"/lib", top + b"/away")
    os.rename(top + b"/empty", top + b"/lib")
    os.rename(top + b"/away", top + b"/empty")


@pytest.mark.parametrize("change", [_renamed, _moved_out, _moved_in, _replaced, _exchanged])
def test_a_directory_that_moves_takes_its_files_out_of_their_link_groups(
    change: Callable[[bytes], None], looks: Trees, top: bytes
) -> None:
    """The files' own status is as before, in whichever directories they have their other names."""
    os.mkdir(top + b"/sub")
    os.mkdir(top + b"-other")
    os.link(top + b"/lib/m.py", top + b"/sub/m.py")
    os.link(top + b"/bin/tool", top + b"-other/tool")
    looks.snapshot(top)
    change(top)
    found, true = looks.snapshot(top), disk.uncached().snapshot(top)
    assert found.manifest() == true.manifest()
    assert found.totals == true.totals


def test_file_with_the_inode_number_of_a_removed_one_is_hashed(
    looks: Trees, top: bytes, tmp_path: Path
) -> None:
    """Packages whose files have one time for ever, removed and installed in another build.

    Where the filesystem gives a number again (ext4), only its birth tells, for a further
    environment has the file by now.
    """
    cache = os.fsencode(tmp_path / "pkgs")
    os.mkdir(cache)

    def install(content: bytes, *names: bytes) -> None:
        disk.write(cache + b"/packaged", content)
        os.utime(cache + b"/packaged", (10**9, 10**9))
        for name in names:
            os.link(cache + b"/packaged", name)

    install(b"build 1", top + b"/packaged")
    looks.snapshot(top)
    for path in (top, cache):
        os.unlink(path + b"/packaged")
    install(b"build 2", top + b"/packaged", cache + b"/of-another")
    assert looks.snapshot(top).manifest() == truth(top)


def test_a_file_says_when_it_was_made(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "file")
    disk.write(path, b"")
    os.utime(path, (5, 5))
    os.chmod(path, 0o700)
    fd = open_directory(os.fsencode(tmp_path))
    born, none = filesystem.birth_time_ns(b"file", fd), filesystem.birth_time_ns(b"none", fd)
    os.close(fd)
    assert none is None
    # Where the filesystem keeps it.
    assert born is None or 0 <= os.lstat(path).st_ctime_ns - born < 60 * 10**9


def test_fresh_finds_what_no_status_tells(
    cache: str, looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad disk changes bytes without a word; here the cache is told that nothing changed."""
    before = looks.snapshot(top)
    disk.shift_content(top + b"/lib/m.py")
    now = disk.uncached().snapshot(top)
    lie = content_cache.Summary("0" * 64, totals_of(truth(top)), now.scan)
    monkeypatch.setattr(content_cache.ContentCache, "summary", lambda _: lie)
    assert looks.snapshot(top).revision == "0" * 64
    assert looks.snapshot(top, fresh=True).revision not in (before.revision, "0" * 64)


def test_a_set_id_bit_of_another_user_is_in_no_manifest(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is sent, the file belongs to who pushes."""
    os.chmod(top + b"/bin/tool", 0o6755)
    os.chmod(top + b"/bin", 0o2755)
    mine = looks.snapshot(top).manifest()
    user_id = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user_id + 1)
    theirs = looks.snapshot(top, fresh=True).manifest()
    assert [mode(mine, b"bin/tool"), mode(theirs, b"bin/tool")] == [0o6755, 0o755]
    assert mode(theirs, b"bin") == 0o2755


def mode(manifest: Manifest, path: bytes) -> int:
    directory, name = split(path)
    return next(entry.mode for entry in manifest.entries(directory) if entry.name == name)
