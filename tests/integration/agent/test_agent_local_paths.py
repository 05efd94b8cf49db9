"""A server's own paths: they go along into whatever tree comes to stand at the name."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from envsync.agent.places import local_disk_usage, local_paths
from envsync.agent.places.local_disk_usage import can_share_blocks, disk_usage
from envsync.agent.places.local_paths import carry
from envsync.agent.server import disk_failures, filesystem
from envsync.agent.target.push import TargetPush
from envsync.agent.trees import file_copy
from envsync.agent.trees.file_copy import copied_mode
from envsync.agent.wire.build_operations import Check, Publication
from envsync.errors import NoSpace, PreflightRefused, StorageFailed
from envsync.tree.local import LocalPaths
from tests.support import disk
from tests.support.ordinary_user import home_of_ordinary_user
from tests.support.pushes import Server, environment, require_sound
from tests.support.trees import Tree, directory, file, manifest_of, symlink, with_parents

MODELS = ("models/checkpoints/**", "share/jupyter/lab/settings/**")
RULES = LocalPaths(MODELS)
PLAIN = environment({b"lib/a": file(b"a")})
CONFIGURED = environment({b"lib/a": file(b"b"), b"models/config.json": file(b"{}")})
OTHER = environment({b"lib/a": file(b"c"), b"models/config.json": file(b"{2}")})
CHECKPOINT = b"models/checkpoints/deep/final.pt"


@pytest.fixture
def live(tmp_path: Path) -> bytes:
    return _made(tmp_path / "live")


@pytest.fixture
def tree(tmp_path: Path) -> bytes:
    return _made(tmp_path / "tree")


def _made(path: Path) -> bytes:
    path.mkdir()
    return os.fsencode(path)


def write(top: bytes, path: bytes, data: bytes = b"mine", mtime_ns: int = 10**18) -> None:
    """A file as a tool of that server writes it: anew, whatever was there."""
    real = os.path.join(top, path)
    os.makedirs(os.path.dirname(real), exist_ok=True)
    Path(os.fsdecode(real)).write_bytes(data)
    os.utime(real, ns=(mtime_ns, mtime_ns))


def is_changed(server: Server) -> bool:
    """Whether it counts as changed by hand."""
    target = server.target(MODELS)
    state = target.inspect(lock=False)
    return state.record is None or state.revision != state.record.revision


# --- into a version that has the directory above ----------------------------------------


def test_local_file_stays_whether_versions_have_its_directory_or_not(server: Server) -> None:
    server.push(PLAIN, local=MODELS)
    write(server.live, CHECKPOINT)
    for nodes in (CONFIGURED, OTHER, CONFIGURED, PLAIN, CONFIGURED):
        server.push(nodes, local=MODELS)
        assert server.tree()[CHECKPOINT].data == b"mine"
        assert not is_changed(server)
    found = server.tree()
    assert {path: found[path] for path in CONFIGURED} == dict(CONFIGURED)


EMPTY = environment({b"lib/a": file(b"a"), b"share/jupyter/lab": directory()})
SETTING = b"share/jupyter/lab/settings/o.json"


def test_local_file_goes_into_an_empty_directory_of_the_next_version(server: Server) -> None:
    server.push(EMPTY, local=MODELS)
    write(server.live, SETTING)
    for nodes in ({**EMPTY, b"lib/a": file(b"new")}, EMPTY, PLAIN, EMPTY):
        server.push(nodes, local=MODELS)
        assert server.tree()[SETTING].data == b"mine"
        assert not is_changed(server)
        expected = nodes.keys() | with_parents({SETTING: file()}).keys()
        assert server.tree().keys() == expected


MERGED: Tree = with_parents(
    {
        b"models/checkpoints/run/a.pt": file(b"a", 0o600, 3),
        b"models/checkpoints/run": directory(0o700, 4),
        b"models/checkpoints/best": symlink(b"run/a.pt", 5),
        b"models/checkpoints/gone": symlink(b"/nowhere", 6),
        b"models/checkpoints": directory(0o500, 7),
        b"models": directory(0o755, 8),
    }
)
BROUGHT: Tree = with_parents(
    {b"models/config.json": file(b"{}", 0o444, 9), b"models": directory(0o555, 10)}
)


def test_modes_mtimes_and_links_are_kept(live: bytes, tree: bytes) -> None:
    disk.build(live, MERGED)
    disk.build(tree, BROUGHT)
    touched = carry(live, [b"models"], tree, RULES, is_ours=True)
    assert disk.read(tree) == {**MERGED, **BROUGHT}
    assert touched >= {b"models", b"models/checkpoints"}
    assert carry(live, [b"models"], tree, RULES, is_ours=True) == set()
    assert disk.read(live) == MERGED


def test_directories_above_a_local_path_are_made_with_their_modes(live: bytes, tree: bytes) -> None:
    disk.build(live, MERGED)
    carry(live, [b"models/checkpoints"], tree, RULES, is_ours=True)
    assert disk.read(tree) == MERGED


def test_local_file_never_replaces_what_the_version_brings(live: bytes, tree: bytes) -> None:
    """Neither a file, nor a link, nor what is at the end of it."""
    outside = os.path.join(os.path.dirname(tree), b"outside")
    os.mkdir(outside)
    for brought in (file(b"theirs"), symlink(outside)):
        write(live, b"models/checkpoints/a.pt")
        disk.build(tree, {b"models": brought})
        with pytest.raises(PreflightRefused, match="a local path there cannot be carried") as told:
            carry(live, [b"models"], tree, RULES, is_ours=True)
        assert told.value.details == ("models: the version has something else there",)
        assert disk.read(tree) == {b"models": brought}
        os.unlink(tree + b"/models")
    assert os.listdir(outside) == []


# --- what it gives nobody ---------------------------------------------------------------


def status(mode: int, user_id: int, group_id: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, user_id, group_id, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "user_id", "group_id", "copied"),
    [
        (0o6755, 1, 1, 0o6755),
        (0o6755, 2, 1, 0o755),  # another user made it, and would be the copy's owner by it
        (0o6755, 1, 2, 0o4755),
        (0o666, 1, 1, 0o664),
        (0o1644, 2, 2, 0o1644),
    ],
)
def test_a_copy_gives_nobody_rights(mode: int, user_id: int, group_id: int, copied: int) -> None:
    assert copied_mode(status(mode, user_id, group_id), status(0o200, 1, 1)) == copied


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's file needs root")
def test_carried_program_of_another_user_loses_its_set_id_bits(live: bytes, tree: bytes) -> None:
    write(live, b"local/id")
    os.chown(live + b"/local/id", 4243, 4243)
    os.chmod(live + b"/local/id", 0o6755)
    rules = LocalPaths(["local/**"])
    carry(live, [b"local"], tree, rules, is_ours=True)
    assert stat.S_IMODE(os.lstat(tree + b"/local/id").st_mode) == 0o755
    assert carry(live, [b"local"], tree, rules, is_ours=True) == set()


@pytest.mark.parametrize(("mode", "carried"), [(0o777, 0o775), (0o1777, 0o1777)])
def test_a_directory_stays_open_to_all_where_each_has_his_own_in_it(
    live: bytes, tree: bytes, mode: int, carried: int
) -> None:
    write(live, b"local/a")
    os.chmod(live + b"/local/a", 0o666)
    os.chmod(live + b"/local", mode)
    rules = LocalPaths(["local/**"])
    carry(live, [b"local"], tree, rules, is_ours=True)
    assert stat.S_IMODE(os.lstat(tree + b"/local").st_mode) == carried
    assert stat.S_IMODE(os.lstat(tree + b"/local/a").st_mode) == 0o664
    assert carry(live, [b"local"], tree, rules, is_ours=True) == set()


# --- what cannot be carried -------------------------------------------------------------


def test_pipes_and_sockets_are_left_out(live: bytes, tree: bytes) -> None:
    write(live, b"models/checkpoints/a")
    os.mkfifo(live + b"/models/checkpoints/pipe")
    write(live, b"models/checkpoints/.nfs0001")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(live + b"/models/checkpoints/socket")
        carry(live, [b"models"], tree, RULES, is_ours=True)
    assert os.listdir(tree + b"/models/checkpoints") == [b"a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_or_fails_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    server.push(PLAIN, local=MODELS)
    write(server.live, CHECKPOINT)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_copy, "_copy", fail)
    with pytest.raises((NoSpace, StorageFailed), match="the live environment is untouched"):
        server.push(CONFIGURED, local=MODELS)
    monkeypatch.undo()
    assert server.tree()[b"lib/a"].data == b"a"
    server.push(CONFIGURED, local=MODELS)
    assert server.tree()[CHECKPOINT].data == b"mine"


def test_local_file_that_may_not_be_read_stops_the_push(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for caches, which are made anew."""
    local = (*MODELS, "var/cache/fontconfig/**")
    server.push(PLAIN, local=local)
    write(server.live, b"var/cache/fontconfig/x")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(file_copy, "_copy", refuse)
    server.push(CONFIGURED, local=local)
    write(server.live, CHECKPOINT)
    with pytest.raises(PreflightRefused) as told:
        server.push(PLAIN, local=local)
    assert told.value.details == (f"{os.fsdecode(CHECKPOINT)}: Permission denied",)
    assert server.tree()[b"lib/a"].data == b"b"


def test_a_cache_where_the_version_has_something_else_stops_nothing(
    live: bytes, tree: bytes
) -> None:
    cached = b"lib/package/__pycache__/a.nbi"
    write(live, cached)
    disk.build(tree, {b"lib": directory(), b"lib/package": symlink(b"elsewhere")})
    before = disk.read(tree)
    for local in (cached, b"lib/package/__pycache__", b"lib/package"):
        carry(live, [local], tree, LocalPaths(), is_ours=True)
    assert disk.read(tree) == before
    write(live, b"lib/package/__pycache__/mine")
    with pytest.raises(PreflightRefused):
        carry(live, [b"lib/package"], tree, LocalPaths(["**/mine"]), is_ours=True)


def test_no_mount_point_is_crossed(
    live: bytes, tree: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one of a directory of the same filesystem, which no device number tells."""
    write(live, b"models/checkpoints/mounted/a")

    def mounts(path: bytes) -> list[bytes]:
        return [live + b"/models/checkpoints/mounted"] if path == live else []

    monkeypatch.setattr(local_paths, "mounts_below", mounts)
    with pytest.raises(PreflightRefused) as told:
        carry(live, [b"models"], tree, RULES, is_ours=True)
    assert told.value.details == ("models/checkpoints/mounted: a filesystem is mounted there",)
    assert disk.read(tree).keys() == {b"models", b"models/checkpoints"}


# --- disk usage -------------------------------------------------------------------------


def test_room_is_counted_beforehand(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.push(PLAIN, local=MODELS)
    write(server.live, CHECKPOINT, os.urandom(3 << 20))
    free = filesystem.Space(disk_failures.SPARE_BYTES + (2 << 20), None)
    monkeypatch.setattr("envsync.agent.staging.build_plan.space", lambda _: free)
    monkeypatch.setattr("envsync.agent.places.local_disk_usage.can_share_blocks", lambda *_: False)
    with pytest.raises(NoSpace, match=r"the push needs 3\.\d MB and 67\.1 MB to spare"):
        server.push(CONFIGURED, local=MODELS)
    monkeypatch.setattr("envsync.agent.places.local_disk_usage.can_share_blocks", lambda *_: True)
    server.push(CONFIGURED, local=MODELS)
    monkeypatch.setattr("envsync.agent.places.local_disk_usage.can_share_blocks", lambda *_: False)
    # What it is built on now has had them as well, and those go first.
    server.push(OTHER, local=MODELS)


def test_holes_stay_holes(live: bytes, tree: bytes) -> None:
    os.makedirs(live + b"/local")
    with open(live + b"/local/sparse", "wb") as new:
        new.truncate(64 << 20)
        new.seek(32 << 20)
        new.write(b"data")
    carry(live, [b"local"], tree, LocalPaths(["local/**"]), is_ours=True)
    with open(tree + b"/local/sparse", "rb") as copied:
        assert os.fstat(copied.fileno()).st_size == 64 << 20
        copied.seek(32 << 20)
        assert copied.read(5) == b"data\0"
    assert disk_usage(tree, [b"local"]).size_bytes < 4 << 20
    assert disk_usage(tree, [b"local"]).inodes == 2


def test_shared_blocks_are_tried(live: bytes, tree: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    write(live, b"local/a", b"x" * 5000)
    for answer in (True, False):
        monkeypatch.setattr(local_disk_usage, "clone", lambda *_, answer=answer: answer)
        assert can_share_blocks(live, [b"local"], tree) is answer
    assert not can_share_blocks(tree, [], tree)


# --- as they are at the switch ----------------------------------------------------------

ONE, TWO, THREE = (environment({b"lib/a": file(data)}) for data in (b"1", b"2", b"3"))
LATER_NS = 10**18 + 1


def test_local_file_written_after_completion_is_carried(server: Server) -> None:
    """As by the job that a push waits for."""
    server.push(PLAIN, local=MODELS)
    write(server.live, CHECKPOINT, b"older")
    write(server.live, b"models/checkpoints/done/tmp")

    def work_on() -> None:
        write(server.live, CHECKPOINT, b"newer", LATER_NS)
        write(server.live, b"models/checkpoints/other.pt")
        write(server.live, SETTING)
        shutil.rmtree(server.live + b"/models/checkpoints/done")

    for nodes in (CONFIGURED, EMPTY):
        server.push(nodes, local=MODELS, before_publish=work_on)
        found = server.tree()
        assert found[CHECKPOINT].data == b"newer"
        assert found.keys() >= {b"models/checkpoints/other.pt", SETTING}
        assert b"models/checkpoints/done" not in found
        assert not is_changed(server)
        require_sound(server, MODELS)
        write(server.live, CHECKPOINT, b"older")
        write(server.live, b"models/checkpoints/done/tmp")


def test_local_file_that_cannot_be_carried_stops_the_switch(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)

    def work_on() -> None:
        write(server.live, b"local/a")
        monkeypatch.setattr(file_copy, "_copy", refuse)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PreflightRefused, match="cannot be carried"):
        server.push(TWO, before_publish=work_on)
    assert server.tree()[b"lib/a"].data == b"1"
    monkeypatch.undo()
    require_sound(server)
    server.push(TWO)
    assert server.tree()[b"local/a"].data == b"mine"


def test_local_file_that_is_carried_at_the_switch_is_synced(server: Server) -> None:
    synced: list[bool] = []
    server.push(ONE)
    write(server.live, b"local/a")
    target = server.target()
    target.inspect(lock=True)
    try:
        sync = target.lock.sync
        live = target.live
        assert live is not None

        def note() -> None:
            synced.append(True)
            sync()

        target.lock.sync = note  # type: ignore[method-assign]
        push = TargetPush(target)
        push.stage(manifest_of(ONE))
        push.complete()
        write(server.live, b"local/b")
        push.publish(Publication("r", "s", "w", "mirror", "", Check(), False))
    finally:
        target.lock.release()
    assert len(synced) == 2


def test_rollback_carries_local_paths(server: Server) -> None:
    """Whole: they belong to the server, whatever version stands there."""
    server.push(ONE)
    write(server.live, b"local/a", b"older")
    write(server.live, b"local/gone")
    server.push(TWO)
    write(server.live, b"local/a", b"newer", LATER_NS)
    write(server.live, b"local/week/b")
    os.unlink(server.live + b"/local/gone")
    server.rollback()
    for nodes in (None, THREE, ONE, THREE):
        if nodes is not None:
            server.push(nodes)
        found = server.tree()
        assert found[b"local/a"].data == b"newer"
        assert found[b"local/week/b"].data == b"mine"
        # Nothing is removed from a version of old, not even what was removed since.
        assert found[b"local/gone"].data == b"mine"
        require_sound(server)


def test_newer_local_file_of_an_earlier_version_survives_the_rollback(server: Server) -> None:
    server.push(ONE)
    write(server.live, b"local/a", b"older")
    server.push(TWO)
    [earlier] = server.earlier()
    write(earlier, b"local/a", b"newer", LATER_NS)
    server.rollback()
    assert server.tree()[b"local/a"].data == b"newer"


@pytest.mark.parametrize("path", [b"local/a", b"local/a/b"], ids=["a file", "a directory"])
def test_unreadable_local_file_replaces_no_older_one(path: bytes) -> None:
    with home_of_ordinary_user() as home:
        live, tree = (os.fsencode(home / name) for name in ("live", "tree"))
        write(tree, b"local/a", b"older")
        write(live, path, b"newer", LATER_NS)
        os.utime(live + b"/local/a", ns=(LATER_NS, LATER_NS))
        os.chmod(live + b"/local/a", 0)
        with pytest.raises(PreflightRefused, match="cannot be carried"):
            carry(live, [b"local"], tree, LocalPaths(["local"]), is_ours=False)
        os.chmod(live + b"/local/a", 0o700)
        assert disk.read(tree)[b"local/a"].data == b"older"


def test_newer_local_file_stays_where_the_live_version_has_a_directory(
    live: bytes, tree: bytes
) -> None:
    write(live, b"local/a/b")
    write(tree, b"local/a", b"newer", LATER_NS)
    os.utime(live + b"/local/a", (1, 1))
    carry(live, [b"local"], tree, LocalPaths(["local"]), is_ours=False)
    assert disk.read(tree)[b"local/a"].data == b"newer"


def test_half_carried_local_file_is_carried_again(live: bytes, tree: bytes) -> None:
    """By who died over it: such a file is newer, but not whole."""
    write(live, b"local/a")
    write(tree, b"local/a", b"mi", LATER_NS)
    os.chmod(tree + b"/local/a", 0o200)
    carry(live, [b"local"], tree, LocalPaths(["local"]), is_ours=False)
    assert disk.read(tree) == disk.read(live)


def test_the_stamps_of_a_version_of_old_are_kept(live: bytes, tree: bytes) -> None:
    disk.build(live, MERGED)
    disk.build(tree, BROUGHT)
    carry(live, [b"models"], tree, RULES, is_ours=False)
    assert disk.read(tree) == {**MERGED, **BROUGHT}


def test_nothing_is_done_in_another_users_directory(
    live: bytes, tree: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stamps could not be put back, and the version would be another."""
    write(live, b"local")
    monkeypatch.setattr(os, "geteuid", lambda: os.lstat(tree).st_uid + 1)
    with pytest.raises(PreflightRefused) as told:
        carry(live, [b"local"], tree, LocalPaths(["local"]), is_ours=False)
    assert told.value.details == ("local: its directory belongs to another user",)
    assert os.listdir(tree) == []


def test_directory_of_another_user_that_needs_no_change_is_accepted(
    live: bytes, tree: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time alone is no reason to refuse a rollback."""
    for top, mtime_ns in ((live, 10**18), (tree, 2 * 10**18)):
        write(top, b"settings/same")
        os.utime(top + b"/settings/same", ns=(10**18, 10**18))
        os.utime(top + b"/settings", ns=(mtime_ns, mtime_ns))
    monkeypatch.setattr(os, "geteuid", lambda: os.lstat(tree).st_uid + 1)
    carry(live, [b"settings"], tree, LocalPaths(["settings/**"]), is_ours=False)
    assert os.lstat(tree + b"/settings").st_mtime_ns == 2 * 10**18
