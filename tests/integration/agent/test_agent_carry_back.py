"""Carrying local paths into a version that comes back: all of them, or nothing is left of it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.places import carry_recovery, local_disk_usage, local_paths
from envsync.agent.places.local_disk_usage import DiskUsage, missing_usage
from envsync.agent.places.local_paths import carry
from envsync.agent.server import filesystem
from envsync.agent.trees import file_copy
from envsync.errors import NoSpace, PreflightRefused
from envsync.tree.local import LocalPaths
from tests.support import disk
from tests.support.pushes import Server, die_in, environment, require_sound
from tests.support.trees import directory, file, manifest_of

OLD, NEW = (
    environment(
        {
            b"lib/a": file(data),
            b"closed": directory(0o555, 10**18),
            b"closed/deep": directory(0o755, 10**18),
            b"closed/deep/f": file(b"f"),
        }
    )
    for data in (b"1", b"2")
)
LOCAL = LocalPaths(["local", "**/*.mine", "models/a/**"])
PUBLISH = "envsync.agent.publishing.guarded_switch"


@pytest.fixture
def server(server: Server) -> Server:
    """Two versions; the newer one stands, with a local file in a directory that is closed."""
    for nodes in (OLD, NEW):
        server.push(nodes, local=LOCAL.patterns)
    write(server.live, b"closed/x.mine", b"x" * 5000)
    return server


def write(top: bytes, path: bytes, data: bytes = b"mine") -> None:
    """The directory stays what it was."""
    real = Path(os.fsdecode(top), os.fsdecode(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    before = real.parent.stat()
    real.parent.chmod(0o700)
    real.write_bytes(data)
    real.parent.chmod(before.st_mode & 0o7777)
    os.utime(real.parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def rollback(server: Server) -> None:
    server.rollback(local=LOCAL.patterns)


def require_old(server: Server) -> None:
    """The old version stands there, with its directories as they were published."""
    found = server.tree()
    assert {path: found[path] for path in OLD} == dict(OLD)
    require_sound(server, LOCAL.patterns)


# --- room -------------------------------------------------------------------------------


def test_carrying_back_needs_room_only_for_missing_and_older_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_disk_usage, "can_share_blocks", lambda *_: False)
    live, tree = (os.fsencode(tmp_path / name) for name in ("live", "tree"))
    for path, times in ((b"same", (1, 1)), (b"older", (2, 1)), (b"newer", (1, 2))):
        for top, seconds in zip((live, tree), times, strict=True):
            data = b"x" * 40960 if (top, path) == (live, b"older") else b"x"
            write(top, b"local/" + path, data)
            os.utime(top + b"/local/" + path, (seconds, seconds))
    write(live, b"local/more/a", b"x" * 4096)
    found = missing_usage(live, [b"local"], tree)
    assert found.inodes == 2
    assert 40960 <= found.size_bytes <= 60_000
    assert missing_usage(live, [b"local/same", b"local/newer"], tree) == DiskUsage(0, 0)


def test_room_is_counted_beforehand(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    write(server.live, b"local/big", os.urandom(3 << 20))
    [earlier] = server.earlier()
    before = disk.read(earlier)
    for free, hint in (
        (filesystem.Space(10 << 20, None), "free some space there"),
        (filesystem.Space(1 << 30, 100), "remove some files there"),
    ):
        monkeypatch.setattr(f"{PUBLISH}.space", lambda _, free=free: free)
        monkeypatch.setattr(local_disk_usage, "can_share_blocks", lambda *_: False)
        with pytest.raises(NoSpace, match="the rollback needs") as told:
            rollback(server)
        assert hint in told.value.hint
        assert server.tree()[b"lib/a"].data == b"2"
        assert disk.read(earlier) == before
        require_sound(server, LOCAL.patterns)
    monkeypatch.setattr(f"{PUBLISH}.space", lambda _: filesystem.Space(10 << 20, None))
    monkeypatch.setattr(local_disk_usage, "can_share_blocks", lambda *_: True)
    rollback(server)
    require_old(server)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_nothing_is_left_of_what_cannot_be_carried(
    server: Server, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Half of it would fill a disk, and nobody would see why."""
    write(server.live, b"models/a/b/c")
    write(server.live, b"models/a/b/d")
    [earlier] = server.earlier()
    before = disk.read(earlier)
    copies = iter((file_copy._copy, file_copy._copy))

    def run_full(old: int, new: int) -> None:
        copy = next(copies, None)
        if copy is None:
            raise OSError(number, os.strerror(number))
        copy(old, new)

    with monkeypatch.context() as full:
        full.setattr(file_copy, "_copy", run_full)
        with pytest.raises((OSError, PreflightRefused)):
            rollback(server)
    assert server.tree()[b"lib/a"].data == b"2"
    assert disk.read(earlier) == before
    rollback(server)
    require_old(server)
    assert server.tree()[b"models/a/b/d"].data == b"mine"


def test_file_that_somebody_adds_during_a_failed_carry_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, tree = (os.fsencode(tmp_path / name) for name in ("live", "tree"))
    write(live, b"local/new/a")
    os.mkdir(tree)

    def fail(*_: object) -> None:
        write(tree, b"local/new/theirs")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(file_copy, "_copy", fail)
    with pytest.raises(OSError, match="No space"):
        carry(live, [b"local"], tree, LOCAL, is_ours=False)
    assert disk.read(tree)[b"local/new/theirs"].data == b"mine"
    assert b"local/new/a" not in disk.read(tree)


# --- who died over it -------------------------------------------------------------------


def test_a_directory_that_is_swapped_meanwhile_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its owner, who need not be who goes back."""
    live, tree = tmp_path / "live", tmp_path / "tree"
    write(os.fsencode(live), b"local/d/e/a")
    write(os.fsencode(live), b"local/d/e/b")
    write(os.fsencode(tree), b"local/d/e/c")
    (live / "local/d/e").chmod(0o1777)
    outside = tmp_path / "outside"
    (outside / "e").mkdir(parents=True)
    (outside / "e").chmod(0o755)
    copy = file_copy._copy

    def swap(old: int, new: int) -> None:
        copy(old, new)
        if not (tree / "local/d").is_symlink():
            (tree / "local/d").rename(tree / "local/away")
            (tree / "local/d").symlink_to(outside)

    monkeypatch.setattr(file_copy, "_copy", swap)
    with pytest.raises(PreflightRefused):
        carry(os.fsencode(live), [b"local"], os.fsencode(tree), LOCAL, is_ours=False)
    assert os.listdir(outside / "e") == []
    assert (outside / "e").stat().st_mode & 0o7777 == 0o755


def test_undoing_a_carry_follows_no_link_out_of_the_tree(tmp_path: Path) -> None:
    """Neither are files and directories removed, nor modes and times restored."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for above in (tree / "local/d", outside):
        (above / "made").mkdir(parents=True, mode=0o700)
        (above / "x").touch(file_copy.UNFINISHED)
        above.chmod(0o711)
    recorded = {b"local": directory(), b"local/d": directory(0o755)}
    found = {b"local": directory(), b"local/d": directory(), b"local/d/made": directory(0o700)}

    def swapped(*_: object) -> list[tuple[bytes, os.stat_result]]:
        path = tree / "local/d"
        status = (path / "x").lstat()
        path.rename(tree / "local/away")
        path.symlink_to(outside)
        return [(os.fsencode(path / "x"), status)]

    with pytest.MonkeyPatch.context() as swapping:
        swapping.setattr(carry_recovery, "entries_of", swapped)
        carry_recovery.undo_interrupted_carry(
            os.fsencode(tree), [b"local"], manifest_of(recorded), manifest_of(found)
        )
    assert sorted(os.listdir(outside)) == ["made", "x"]
    assert outside.stat().st_mode & 0o777 == 0o711


def in_a_copy(monkeypatch: pytest.MonkeyPatch, die: Callable[[], None]) -> None:
    copy_data = file_copy._copy_data

    def half(old: int, new: int, size_bytes: int) -> None:
        copy_data(old, new, size_bytes // 2)
        die()

    monkeypatch.setattr(file_copy, "clone", lambda *_: False)
    monkeypatch.setattr(file_copy, "_copy_data", half)


def before_a_copy(monkeypatch: pytest.MonkeyPatch, die: Callable[[], None]) -> None:
    monkeypatch.setattr(local_paths._Carrying, "_copy", lambda *_: die())


def in_a_new_directory(monkeypatch: pytest.MonkeyPatch, die: Callable[[], None]) -> None:
    mkdir = os.mkdir

    def last(path: bytes, *args: object, **kwargs: object) -> None:
        mkdir(path, *args, **kwargs)  # type: ignore[arg-type]
        if path == b"deeper":
            die()

    monkeypatch.setattr(os, "mkdir", last)


@pytest.mark.parametrize("moment", [in_a_copy, before_a_copy, in_a_new_directory])
def test_rollback_after_a_killed_carry_begins_from_the_recorded_version(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    moment: Callable[[pytest.MonkeyPatch, Callable[[], None]], None],
) -> None:
    """Also where what was carried then is gone by now."""
    if moment is in_a_new_directory:
        os.unlink(server.live + b"/closed/x.mine")
        os.chmod(server.live + b"/closed", 0o755)
        write(server.live, b"closed/new/deeper/x.mine")

    def killed(die: Callable[[], None]) -> None:
        moment(monkeypatch, die)
        rollback(server)

    die_in(killed)
    os.chmod(server.live + b"/closed", 0o755)
    shutil.rmtree(server.live + b"/closed/new", ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(server.live + b"/closed/x.mine")
    rollback(server)
    require_old(server)
    assert server.tree().keys() - OLD.keys() == set()
