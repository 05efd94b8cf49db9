"""What is mounted inside a version belongs to nobody's version: it is never emptied.

Each test runs in a child process with a mount namespace of its own.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from envsync.agent.server.filesystem import mounted_within
from envsync.agent.target import switches
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.trees.directory_read import open_directory
from envsync.agent.trees.removal import remove_tree, remove_trees
from envsync.errors import AgentFailed, PreflightRefused
from tests.support.mounts import bind, in_a_namespace
from tests.support.pushes import Server, environment
from tests.support.trees import file

LOCAL = ("data/**",)
VERSIONS = [environment({b"bin/tool": file(b"version %d" % n, 0o755)}) for n in range(5)]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "dataset"
    (path / "deep").mkdir(parents=True)
    (path / "deep/measured").write_text("years of work\n")
    (path / "of").write_text("years of work\n")
    return path


def is_whole(dataset: Path) -> bool:
    return sorted(path.name for path in dataset.rglob("*")) == ["deep", "measured", "of"]


def _mounted_then_switched(server: Server, dataset: Path) -> bytes:
    """Two versions; inside the earlier one something is mounted, as a local path of it."""
    server.push(VERSIONS[0], local=LOCAL)
    os.mkdir(server.live + b"/data")
    server.push(VERSIONS[1], local=LOCAL)
    (tree,) = server.earlier()
    bind(dataset, tree + b"/data")
    return tree


def test_a_push_over_a_version_that_something_is_mounted_in_is_refused(
    server: Server, dataset: Path
) -> None:
    def act() -> None:
        server.push(VERSIONS[0], local=LOCAL)
        os.mkdir(server.live + b"/data")
        bind(dataset, server.live + b"/data")
        (found,) = server.target(LOCAL).inspect(lock=False).findings
        assert (found.kind, found.blocking) == ("mounted-inside", True)
        assert os.fsdecode(server.live + b"/data") in found.message
        with pytest.raises(AgentFailed, match="not locked"):
            server.push(VERSIONS[1], local=LOCAL)
        with pytest.raises(PreflightRefused, match="something is mounted inside"):
            server.rollback()

    in_a_namespace(act)
    assert is_whole(dataset)


def test_a_rollback_to_a_version_that_something_is_mounted_in_is_refused(
    server: Server, dataset: Path
) -> None:
    def act() -> None:
        tree = _mounted_then_switched(server, dataset)
        with pytest.raises(PreflightRefused) as refused:
            server.rollback(local=LOCAL)
        where = os.fsdecode(tree + b"/data")
        assert refused.value.message == f"something is mounted inside generation 1, at {where}"
        assert server.tree()[b"bin/tool"] == VERSIONS[1][b"bin/tool"]

    in_a_namespace(act)
    assert is_whole(dataset)


def test_going_back_from_a_mount_point_or_to_one_is_refused_as_such(server: Server) -> None:
    def act() -> None:
        server.push(VERSIONS[0])
        server.push(VERSIONS[1])
        (earlier,) = server.earlier()
        for path, name in ((server.live, os.fsdecode(server.live)), (earlier, "generation 1")):
            bind(Path(os.fsdecode(path)), path)
            with pytest.raises(PreflightRefused) as refused:
                server.rollback()
            assert refused.value.message == f"{name} is a mount point and cannot be switched"
            subprocess.run(["umount", path], check=True)
        server.rollback()

    in_a_namespace(act)


def test_version_in_an_overlays_lower_layer_is_not_removed(server: Server, tmp_path: Path) -> None:
    def act() -> None:
        server.push(VERSIONS[0])
        layers = tmp_path / "layers"
        layers.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layers], check=True)
        for name in ("upper", "work"):
            (layers / name).mkdir()
        where = f"lowerdir={server.prefix},upperdir={layers}/upper,workdir={layers}/work"
        overlay = ["-t", "overlay", "overlay", "-o", where]
        subprocess.run(["mount", *overlay, str(server.prefix)], check=True)
        with pytest.raises(PreflightRefused, match="lower layer") as refused:
            switches.remove(server.target(), "bob@here", overwrite=False)
        subprocess.run(["sh", "-c", refused.value.hint.split("`")[1]], check=True)
        assert not os.path.exists(server.live)

    in_a_namespace(act)


def test_mount_made_during_a_push_stops_it(server: Server, dataset: Path) -> None:
    def act() -> None:
        server.push(VERSIONS[0])
        os.mkdir(server.live + b"/local")
        with server.staged(VERSIONS[0]) as push:
            bind(dataset, server.live + b"/local")
            with pytest.raises(PreflightRefused, match="something is mounted inside"):
                push.complete()

    in_a_namespace(act)


@pytest.mark.parametrize("keep", [0, 1])
def test_pushes_leave_an_earlier_version_that_something_is_mounted_in(
    keep: int, server: Server, dataset: Path
) -> None:
    def act() -> None:
        tree = _mounted_then_switched(server, dataset)
        for version in VERSIONS[2:]:
            server.push(version, local=LOCAL, keep=keep)
        assert tree in server.earlier()
        assert len(server.earlier()) == 1 + keep, "and it is not in the way of others"

    in_a_namespace(act)
    assert is_whole(dataset)


def test_gc_says_why_it_leaves_a_version_with_a_mount(server: Server, dataset: Path) -> None:
    def act() -> None:
        tree = _mounted_then_switched(server, dataset)
        swept = sweep(server.target(LOCAL), Rules(0, True, False, time.time()))
        where = os.fsdecode(tree + b"/data")
        reason = f"generation 1: something is mounted in it, at {where}: unmount it there"
        assert (swept.generations, swept.stays) == ((), (reason,))

    in_a_namespace(act)
    assert is_whole(dataset)


def test_a_removal_that_would_reach_what_is_mounted_removes_nothing(
    tmp_path: Path, dataset: Path
) -> None:
    def act() -> None:
        top = tmp_path / "top"
        for name in ("a", "b/at", "c"):
            (top / name).mkdir(parents=True)
            (top / name / "file").touch()
        bind(dataset, os.fsencode(top / "b/at"))
        top_fd = open_directory(os.fsencode(top))
        for path in (top, top / "b", top / "b/at"):
            with pytest.raises(OSError, match="something is mounted there"):
                remove_tree(os.fsencode(path))
        for paths in ([b"a", b"b"], [b"a", b"b/at"]):
            with pytest.raises(OSError, match="something is mounted there"):
                remove_trees(paths, top_fd)
        with pytest.raises(OSError, match="something is mounted there"):
            remove_tree(b"b", top_fd)
        assert (top / "a/file").exists()
        remove_trees([b"a", b"c"], top_fd)
        assert os.listdir(top) == ["b"]

    in_a_namespace(act)
    assert is_whole(dataset)


def test_mounts_below_a_path_are_found(tmp_path: Path) -> None:
    def act() -> None:
        (tmp_path / "other").mkdir()
        for name in ("a b", "ab/c"):
            (tmp_path / name).mkdir(parents=True)
            bind(tmp_path / "other", os.fsencode(tmp_path / name))
        (tmp_path / "link").symlink_to("ab")
        base = os.fsencode(tmp_path)
        assert mounted_within(base + b"/a b") == (base + b"/a b",)
        assert mounted_within(base + b"/ab") == (base + b"/ab/c",)
        assert mounted_within(base + b"/a") == mounted_within(base + b"/link") == ()

    in_a_namespace(act)
