"""Snapshots: the manifest of a real tree, and what is known of it from the time before."""

from __future__ import annotations

import os
import pwd
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from envsync.agent import content_cache, filesystem, hashing
from envsync.agent.content_cache import cache_directory
from envsync.agent.scan_pass import open_directory
from envsync.agent.snapshot import ATTEMPTS, Trees
from envsync.errors import SourceRefused
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of
from tests.unit.agent import disk
from tests.unit.agent.changes import CHANGES, TREE, Change
from tests.unit.tree.trees import Node, manifest_of, trees

TREE_BYTES = sum(len(node.data) for node in TREE.values() if node.kind == 1)


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "content")


@pytest.fixture
def looks(cache: str) -> Trees:
    return Trees(cache, LocalPaths())


def truth(top: bytes) -> Manifest:
    """The manifest of a tree that nothing is known of."""
    return disk.uncached().snapshot(top).manifest()


@settings(max_examples=10)
@given(trees())
def test_it_is_the_tree(nodes: dict[bytes, Node]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = os.fsencode(directory)
        disk.build(top, nodes)
        found = disk.uncached().snapshot(top)
    assert found.manifest().directories == manifest_of(nodes).directories
    assert found.revision == revision_of(manifest_of(nodes))
    assert found.totals == manifest_of(nodes).totals()


def test_the_second_one_hashes_nothing(looks: Trees, top: bytes) -> None:
    first, second = looks.snapshot(top), looks.snapshot(top)
    assert (first.hashed_bytes, second.hashed_bytes) == (TREE_BYTES, 0)
    assert second.manifest() == first.manifest() == truth(top)
    assert (second.revision, second.totals) == (first.revision, first.totals)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_known_never_hides_a_change(change: Change, looks: Trees, top: bytes) -> None:
    looks.snapshot(top)
    change(top)
    after = looks.snapshot(top)
    assert after.manifest() == truth(top)
    assert after.revision == revision_of(after.manifest())
    assert after.totals == after.manifest().totals()


def test_only_what_changed_is_hashed(looks: Trees, top: bytes) -> None:
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


def test_links_from_elsewhere_do_not_rehash(looks: Trees, top: bytes) -> None:
    """`conda create --clone` links every file; its ctime and link count change, no byte does."""
    looks.snapshot(top)
    os.link(top + b"/lib/m.py", top + b"-clone")
    assert looks.snapshot(top).hashed_bytes == 0
    assert looks.snapshot(top, fresh=True).hashed_bytes == TREE_BYTES


def test_another_file_with_the_number_of_one_that_was_removed(
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
    born, none = filesystem.born_ns(b"file", fd), filesystem.born_ns(b"none", fd)
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
    monkeypatch.setattr(
        content_cache.ContentCache, "summary", lambda _: _summary(cache, looks, top)
    )
    assert looks.snapshot(top, fresh=True).revision != before.revision


def _summary(cache: str, looks: Trees, top: bytes) -> content_cache.Summary:
    scanned = looks.scan(top)
    return content_cache.Summary(
        scanned.signature, "0" * 64, truth(top).totals(), scanned.mode, scanned.mtime_ns
    )


# --- changes while it looks -------------------------------------------------------------


def once(change: Callable[[], object]) -> Callable[[int], None]:
    """A progress callback: something happens while the first file is being hashed."""
    calls: list[int] = []

    def progress(size_bytes: int) -> None:
        calls.append(size_bytes)
        if len(calls) == 1:
            change()

    return progress


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_while_hashing_is_found(change: Change, looks: Trees, top: bytes) -> None:
    found = looks.snapshot(top, progress=once(lambda: change(top)))
    assert found.manifest() == truth(top)
    assert looks.snapshot(top).manifest() == truth(top), "and nothing wrong is remembered"


def test_a_directory_that_was_away_for_a_moment(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files could not be read, or others were in their place; their status says nothing."""
    decoy = with_decoy(top)
    hash_file, calls = hashing.hash_file, iter([b"lib", b"bin"])

    def meddled(top_fd: int, path: bytes, *rest: int) -> bytes | None:
        away = next((name for name in calls), b"")
        if away:
            os.rename(top + b"/" + away, top + b"-away")
            os.rename(decoy + b"/" + away, top + b"/" + away)
        try:
            return hash_file(top_fd, b"lib/m.py" if away == b"lib" else path, *rest)
        finally:
            if away:
                os.rename(top + b"/" + away, decoy + b"/" + away)
                os.rename(top + b"-away", top + b"/" + away)

    monkeypatch.setattr(hashing, "hash_file", meddled)
    found = looks.snapshot(top)
    monkeypatch.undo()
    assert found.manifest() == truth(top)
    assert looks.snapshot(top).manifest() == truth(top)


def with_decoy(top: bytes) -> bytes:
    """Another directory with files of the same names and sizes."""
    decoy = top + b"-decoy"
    os.mkdir(decoy)
    disk.build(decoy, {path: node for path, node in TREE.items() if path != b"empty"})
    for path, node in TREE.items():
        if node.kind == 1:
            disk.shift_content(decoy + b"/" + path)
    return decoy


def test_a_link_that_was_another_for_a_moment(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    readlink, calls = os.readlink, iter(["first"])

    def meddled(path: bytes, *, dir_fd: int | None = None) -> bytes:
        if next(calls, ""):
            os.rename(top + b"/bin", top + b"/away")
            os.rename(top + b"/away", top + b"/bin")
            return b"another"
        return readlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", meddled)
    found = looks.snapshot(top)
    monkeypatch.undo()
    assert found.manifest() == truth(top)


def test_what_goes_on_changing_is_refused(looks: Trees, top: bytes) -> None:
    changes: list[int] = []

    def progress(_: int) -> None:
        changes.append(len(changes))
        with open(top + b"/lib/m.py", "ab") as file:
            file.write(b"x")

    with pytest.raises(SourceRefused, match="changing") as refused:
        looks.snapshot(top, progress=progress)
    assert refused.value.hint
    assert len(changes) >= ATTEMPTS
    assert looks.snapshot(top).manifest() == truth(top)


def test_files_that_may_not_be_read_are_named(tmp_path: Path, top: bytes) -> None:
    os.chmod(top + b"/lib/m.py", 0)
    os.chmod(tmp_path, 0o755)
    # The directories above are not this test's alone: it goes past them.
    fd = os.open(tmp_path, os.O_RDONLY)
    with disk.ordinary_user(), pytest.raises(SourceRefused) as refused:
        disk.uncached().snapshot(b"/proc/self/fd/%d/" % fd + os.path.basename(top))
    os.close(fd)
    assert refused.value.details == ("lib/m.py",)
    assert "chmod" in refused.value.hint


# --- the clock --------------------------------------------------------------------------


def test_a_change_within_one_tick_is_found(looks: Trees, top: bytes) -> None:
    for number in range(5):
        with open(top + b"/lib/m.py", "wb") as file:
            file.write(b"%06d" % number)
        found = looks.snapshot(top)
        disk.shift_content(top + b"/lib/m.py")
        assert looks.snapshot(top).revision != found.revision


def test_a_stamp_from_the_future_is_not_trusted(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose clock is ahead, or a clock set back: hashed again until it settles."""
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES
    monkeypatch.undo()
    assert looks.snapshot(top).manifest() == truth(top)


def test_after_a_reboot_everything_is_hashed_again(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks.snapshot(top)
    monkeypatch.setattr(content_cache, "boot_id", lambda: "another boot")
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES


def test_unless_a_sync_followed(looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = looks.snapshot(top).scan
    looks.cache(scanned.device, scanned.inode).mark_synced()
    monkeypatch.setattr(content_cache, "boot_id", lambda: "another boot")
    assert looks.snapshot(top).hashed_bytes == 0


# --- the cache itself -------------------------------------------------------------------


def cache_file(cache: str) -> Path:
    (found,) = Path(cache).iterdir()
    return found


def test_damage_anywhere_is_no_cache(cache: str, looks: Trees, top: bytes) -> None:
    expected = looks.snapshot(top).manifest()
    sound = cache_file(cache).read_bytes()
    for at in range(0, len(sound), 31):
        cache_file(cache).write_bytes(sound[:at] + bytes([sound[at] ^ 0x55]) + sound[at + 1 :])
        assert looks.snapshot(top).manifest() == expected, f"byte {at}"


def test_a_torn_cache_is_no_cache(cache: str, looks: Trees, top: bytes) -> None:
    expected = looks.snapshot(top).manifest()
    sound = cache_file(cache).read_bytes()
    for at in range(0, len(sound), 61):
        cache_file(cache).write_bytes(sound[:at])
        assert looks.snapshot(top).manifest() == expected, f"cut at {at}"


def test_damage_heals(cache: str, looks: Trees, top: bytes) -> None:
    """A damaged cache must not cost every later push its time, or its success."""
    looks.snapshot(top)
    sound = cache_file(cache).read_bytes()
    cache_file(cache).write_bytes(sound[:-1])
    looks.snapshot(top).manifest()
    assert looks.snapshot(top).hashed_bytes == 0
    assert looks.snapshot(top).manifest() == truth(top)


def test_a_manifest_never_is_that_of_a_later_state(looks: Trees, top: bytes) -> None:
    """Another process looks, and remembers, between a snapshot and the call for its manifest."""
    looks.snapshot(top)
    snapshot = looks.snapshot(top)
    disk.shift_content(top + b"/lib/m.py")
    looks.snapshot(top)
    with pytest.raises(SourceRefused):
        snapshot.manifest()


def test_two_users_of_one_cache(cache: str, top: bytes) -> None:
    one, two = Trees(cache, LocalPaths()), Trees(cache, LocalPaths())
    for number in range(3):
        disk.write(top + b"/lib/%d" % number, b"x")
        first, second = one.snapshot(top), two.snapshot(top)
        assert (first.hashed_bytes, second.hashed_bytes) == (TREE_BYTES + 1 if not number else 1, 0)
        assert first.manifest() == second.manifest() == truth(top)
    assert len(list(Path(cache).iterdir())) == 1, "nothing is left lying about"


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/below", "/dev/null"])
def test_without_a_place_for_it(place: str, top: bytes) -> None:
    looks = Trees(place, LocalPaths())
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES
    assert looks.snapshot(top).manifest() == truth(top)


OWN_CACHE = f"{pwd.getpwuid(os.geteuid()).pw_dir}/.cache/envsync/content"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, OWN_CACHE),
        ({"HOME": ""}, None),
        ({"HOME": "relative"}, None),
        ({"HOME": "/home/alice"}, "/home/alice/.cache/envsync/content"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/envsync/content"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/scratch"}, "/scratch/envsync/content"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, None),
    ],
)
def test_where_it_is_kept(environ: dict[str, str], expected: str | None) -> None:
    assert cache_directory(environ) == expected


def test_nobody_else_may_read_it(cache: str, looks: Trees, top: bytes) -> None:
    looks.snapshot(top)
    assert cache_file(cache).stat().st_mode & 0o077 == 0
