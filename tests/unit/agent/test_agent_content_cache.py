"""The content cache: damage, reboots, other users of it, and where it is kept."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from envsync.agent.server import machine
from envsync.agent.trees.trees import Trees
from envsync.errors import SourceRefused
from envsync.files.directories import content_directory
from envsync.tree.local import LocalPaths
from tests.support import disk
from tests.support.changes import TREE_BYTES
from tests.support.disk import truth


def test_after_a_reboot_everything_is_hashed_again(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks.snapshot(top)
    monkeypatch.setattr(machine, "boot_id", lambda: "another boot")
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES


def test_unless_a_sync_followed(looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = looks.snapshot(top).scan
    looks.cache(scanned.device, scanned.inode).mark_synced()
    monkeypatch.setattr(machine, "boot_id", lambda: "another boot")
    assert looks.snapshot(top).hashed_bytes == 0


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


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_cache_that_others_could_write_is_replaced(
    cache: str, looks: Trees, top: bytes, mode: int
) -> None:
    """As in a shared XDG_CACHE_HOME: who forged it could hide a change from the next push."""
    looks.snapshot(top)
    cache_file(cache).chmod(mode)
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES
    assert looks.snapshot(top).hashed_bytes == 0


def test_cache_of_another_user_is_not_believed(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks.snapshot(top)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES


def test_damaged_cache_is_replaced(cache: str, looks: Trees, top: bytes) -> None:
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
    then = truth(top)
    snapshot = looks.snapshot(top)
    disk.shift_content(top + b"/lib/m.py")
    looks.snapshot(top)
    try:
        assert snapshot.manifest() == then
    except SourceRefused:
        assert snapshot.scan.signature != looks.snapshot(top).scan.signature


def test_two_processes_share_one_cache(cache: str, top: bytes) -> None:
    one, two = Trees(cache, LocalPaths()), Trees(cache, LocalPaths())
    for number in range(3):
        disk.write(top + b"/lib/%d" % number, b"x")
        first, second = one.snapshot(top), two.snapshot(top)
        assert (first.hashed_bytes, second.hashed_bytes) == (TREE_BYTES + 1 if not number else 1, 0)
        assert first.manifest() == second.manifest() == truth(top)
    assert len(list(Path(cache).iterdir())) == 1, "nothing is left lying about"


def test_after_local_paths_were_edited_nothing_is_hashed_again(cache: str, top: bytes) -> None:
    Trees(cache, LocalPaths()).snapshot(top)
    fewer = Trees(cache, LocalPaths(["lib/m.py"])).snapshot(top)
    assert fewer.hashed_bytes == 0
    directory, m = b"lib", b"m.py"
    expected = [entry for entry in truth(top).entries(directory) if entry.name != m]
    assert list(fewer.manifest().entries(directory)) == expected
    disk.shift_content(top + b"/lib/m.py")
    again = Trees(cache, LocalPaths(["no/such"])).snapshot(top)
    assert again.manifest() == truth(top), "but what has changed meanwhile"


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/below", "/dev/null"])
def test_snapshot_works_without_a_place_for_the_cache(place: str, top: bytes) -> None:
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
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/envsync/content"),
    ],
)
def test_content_cache_is_in_the_users_cache_directory(
    environ: dict[str, str], expected: str | None
) -> None:
    assert content_directory(environ) == expected


def test_content_cache_is_closed_to_other_users(cache: str, looks: Trees, top: bytes) -> None:
    looks.snapshot(top)
    assert cache_file(cache).stat().st_mode & 0o077 == 0
