"""Whole pushes on a real disk: what stands there after each, and after each that was stopped.

A reader sees the old version or the new one, never a mixture; the next push succeeds.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.agent.places import busy_findings
from envsync.agent.places.live_name import LiveName
from envsync.agent.places.local_paths import carry
from envsync.agent.places.records import Record, Records
from envsync.agent.server import filesystem
from envsync.agent.target import switches
from envsync.agent.trees.trees import Trees
from envsync.agent.wire.messages import KEPT
from envsync.errors import (
    CheckFailed,
    EnvsyncError,
    NoSpace,
    PreflightRefused,
    SourceRefused,
    StorageFailed,
    TargetDrifted,
    VerificationFailed,
)
from envsync.tree.local import LocalPaths
from tests.integration.agent.versions import (
    ONE,
    THREE,
    TWO,
    kill_at,
    revision,
    shift,
)
from tests.support import disk
from tests.support import trees as trees_
from tests.support.disk import memory
from tests.support.ordinary_user import ordinary_user
from tests.support.pushes import Server, die_in, environment, records, require_sound
from tests.support.trees import (
    Node,
    Tree,
    directory,
    file,
    manifest_of,
    symlink,
    trees,
    variants,
    with_parents,
)

pytestmark = pytest.mark.usefixtures("each_way")
IN_IT = "cd $CONDA_PREFIX"


# --- what a push leaves -----------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[dict[bytes, Node]]:
    """Versions of one environment, as pushes bring them."""
    versions = [draw(trees())]
    for _ in range(3):
        versions.append(draw(variants(versions[-1])))
    return [environment(nodes) for nodes in versions]


@settings(max_examples=4, deadline=None)
@given(histories())
def test_every_version_arrives_exactly(history: list[dict[bytes, Node]]) -> None:
    """Kinds, contents, modes, times, links: with each version built on an earlier one."""
    with tempfile.TemporaryDirectory(dir=memory()) as root:
        server = Server(Path(root))
        for nodes in history:
            server.push(nodes)
            assert server.manifest() == manifest_of(nodes)
            require_sound(server)


def test_the_earlier_version_is_kept_and_no_more(server: Server) -> None:
    for nodes in (ONE, TWO, THREE):
        server.push(nodes)
    kept = [record.revision for record in records(server).all()]
    assert kept == [revision(TWO), revision(THREE)]
    assert len(server.earlier()) == 1
    require_sound(server)


def test_no_two_versions_share_an_inode(server: Server) -> None:
    """Conda appends to `conda-meta/history` in place: that must not reach a generation."""
    for nodes in (ONE, TWO, ONE, TWO):
        server.push(nodes, keep=2)
    inodes: list[int] = []
    for top in [server.live, *server.earlier()]:
        inodes += [os.lstat(top + b"/" + path).st_ino for path in disk.read(top)]
    assert len(inodes) == len(set(inodes))


def test_open_files_keep_their_bytes(server: Server) -> None:
    server.push(ONE)
    with open(server.live + b"/bin/tool", "rb") as running:
        for nodes in (TWO, THREE, TWO):
            server.push(nodes)
            running.seek(0)
            assert running.read() == b"one"


def test_state_directory_is_closed_to_other_users(server: Server) -> None:
    """Where the name is a link, others get through to what it leads to, and see nothing else."""
    server.push(ONE)
    server.push(TWO)
    on_the_way = {server.state.parent, server.state, server.state / "trees"}
    assert server.state.stat().st_mode & 0o066 == 0
    for path in on_the_way if os.path.islink(server.live) else ():
        assert path.stat().st_mode & 0o011 == 0o011
    for path in server.state.rglob("*"):
        if "trees" not in path.parts:
            assert path.stat().st_mode & 0o077 == 0, path


LOCAL = {
    "a local file": {b"local/settings": file(b"mine")},
    "a local file beside others": {b"lib/local": file(b"mine")},
    "remains of NFS": {b"lib/.nfs0001": file(b"deleted while open")},
}


@pytest.mark.parametrize("extra", LOCAL.values(), ids=LOCAL.keys())
@pytest.mark.parametrize("version", [ONE, THREE], ids=["same directories", "directories vanish"])
def test_local_files_bar_no_removal_of_a_directory(
    extra: Tree, version: Tree, server: Server
) -> None:
    """Directories that a new version lacks may hold what no manifest names."""
    server.push(ONE)
    for nodes in (TWO, version, TWO, version):
        for path, node in extra.items():
            real = server.live + b"/" + path
            if not os.path.exists(real) and os.path.isdir(server.live + b"/lib"):
                os.makedirs(os.path.dirname(real), exist_ok=True)
                disk.write(real, node.data)
        server.push(nodes, local=("local", "lib/local"))
        found = server.target(["local", "lib/local"]).look().live
        assert found is not None
        assert found.revision == revision(nodes)


def test_a_pipe_in_the_spare_version_does_not_stand_in_the_way(server: Server) -> None:
    server.push(ONE)
    os.mkfifo(server.live + b"/lib/pipe")
    for nodes in (TWO, THREE, TWO):
        server.push(nodes)
    assert server.revision() == revision(TWO)


def test_local_paths_go_along(server: Server) -> None:
    server.push(ONE)
    os.mkdir(server.live + b"/local")
    disk.write(server.live + b"/local/settings", b"mine")
    server.push(TWO)
    assert server.tree()[b"local/settings"].data == b"mine"
    os.unlink(server.live + b"/local/settings")
    os.rmdir(server.live + b"/local")
    server.push(THREE)
    assert b"local" not in server.tree()


def test_leftover_that_was_published_is_no_sign_of_an_installer(server: Server) -> None:
    """Whoever pushes the mended source is not refused for it."""
    server.push({**ONE, b"bin/tool.c~": file(b"of a conda that died at the source")})
    assert server.target().inspect(lock=False).findings == ()
    (Path(os.fsdecode(server.live)) / "bin/other.c~").touch()
    leftovers = [found.message for found in server.target().inspect(lock=False).findings]
    assert leftovers == ["an installer left bin/other.c~", "an installer left bin/tool.c~"]


def test_half_of_a_local_file_does_not_go_along(tmp_path: Path) -> None:
    """Where it cannot be copied to its end: by a limit here, which ends it as a full disk does."""
    live, staging = (os.fsencode(tmp_path / name) for name in ("live", "staging"))
    for path in (live + b"/settings", staging):
        os.makedirs(path)
    for path in (b"/large", b"/settings/large"):
        disk.write(live + path, b"x" * 50_000)
    disk.write(live + b"/settings/small", b"mine")

    def copy(_: Callable[[], None]) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            carry(live, [b"settings", b"large"], staging, LocalPaths(["*"]), is_ours=True)

    assert not die_in(copy, may_live=True)
    assert not disk.read(staging)


def test_directories_without_write_permission(server: Server) -> None:
    """Permissions count for an ordinary user; root can only check that they arrive."""
    nodes = {**ONE, b"lib": directory(0o555)}
    for version in (nodes, TWO, {**nodes, b"lib/x": file()}, TWO, nodes):
        server.push(version)
        assert server.manifest() == manifest_of(version)


def test_a_top_without_write_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its owner may not write to cannot be moved to another directory: of an ordinary user."""
    monkeypatch.setattr(trees_, "TOP_MODE", 0o555)
    with ordinary_user(), tempfile.TemporaryDirectory(dir=memory()) as root:
        server = Server(Path(root))
        server.push(ONE)
        for version in (TWO, THREE, ONE):
            os.chmod(server.target().layout.standing(), 0o555)
            server.push(version)
            assert server.revision() == revision(version)
        server.rollback()
        assert server.revision() == revision(THREE)
        require_sound(server)


# --- drift ------------------------------------------------------------------------------


def test_change_before_the_switch_stops_the_push(server: Server) -> None:
    server.push(ONE)
    with pytest.raises(TargetDrifted):
        server.push(TWO, before_publish=lambda: shift(server))
    assert server.tree()[b"bin/tool"].data == b"one"
    server.push(TWO)
    assert server.revision() == revision(TWO)


def test_write_in_place_is_found_before_the_switch_two_seconds_after_the_look(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody ever sees the new version. Sooner, a look at directories would not find the write."""
    monotonic, steps = time.monotonic, list[str]()

    def write() -> None:
        shift(server)
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 2.0)

    server.push(ONE)
    with pytest.raises(TargetDrifted, match="during the push"):
        server.push(TWO, before_publish=write, on_step=steps.append)
    assert "sync" in steps
    assert "switch" not in steps


def test_change_at_the_moment_of_the_switch_undoes_it(server: Server) -> None:
    server.push(ONE)
    with pytest.raises(TargetDrifted, match="undone") as undone:
        server.push(TWO, on_step=lambda step: shift(server) if step == "switch" else None)
    assert undone.value.hint == TargetDrifted("").hint
    assert server.tree()[b"bin/tool"].data == b"one"
    assert server.tree()[b"lib/shared"].data != b"the same", "the change itself is not lost"
    server.push(TWO)
    assert server.revision() == revision(TWO)
    require_sound(server)


def test_installer_that_began_at_the_moment_of_the_switch_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(step: str) -> None:
        if step == "switch":
            shift(server)
            monkeypatch.setattr(busy_findings, "installers_at_work", lambda _: [("pip", 7)])

    server.push(ONE)
    message = r"pip \(process 7\) is changing it; the switch was undone"
    with pytest.raises(TargetDrifted, match=message) as undone:
        server.push(TWO, on_step=install)
    assert undone.value.hint == "push again when it has ended there"
    assert server.tree()[b"bin/tool"].data == b"one"


@pytest.mark.parametrize("failure", [SourceRefused("it keeps changing"), StorageFailed("broken")])
def test_what_cannot_be_compared_after_the_switch_counts_as_changed(
    failure: EnvsyncError, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    def switch(step: str) -> None:
        if step == "switch":
            monkeypatch.setattr(Trees, "scan_again", fail)

    server.push(ONE)
    with pytest.raises(TargetDrifted, match="undone"):
        server.push(TWO, on_step=switch)
    assert server.revision() == revision(ONE)


def test_an_environment_that_appears_during_the_push(server: Server) -> None:
    def appear() -> None:
        os.mkdir(server.live)
        disk.build(server.live, THREE)

    with pytest.raises(TargetDrifted):
        server.push(ONE, before_publish=appear)
    assert server.revision() == revision(THREE)


def test_an_environment_that_vanishes_during_the_push(server: Server) -> None:
    server.push(ONE)
    with pytest.raises(TargetDrifted):
        server.push(TWO, before_publish=lambda: os.rename(server.live, server.live + b"-moved"))
    server.push(TWO)
    assert server.revision() == revision(TWO)


def test_version_that_was_changed_by_hand_is_kept_for_good(server: Server) -> None:
    server.push(ONE)
    shift(server)
    changed = server.revision()
    for nodes in (TWO, THREE, ONE, TWO):
        server.push(nodes, keep=1)
    kept = [record for record in records(server).all() if record.kept_because]
    assert [record.revision for record in kept] == [changed]
    require_sound(server)


def test_a_harmless_change_during_the_push_is_no_drift(server: Server) -> None:
    """Python writes caches wherever it runs."""
    nodes = {**ONE, b"lib/m.py": file(b"code")}

    def compile_it() -> None:
        os.mkdir(server.live + b"/lib/__pycache__")
        disk.write(server.live + b"/lib/__pycache__/m.cpython-311.pyc", b"cache")

    server.push(nodes)
    server.push(TWO, before_publish=compile_it)
    assert server.revision() == revision(TWO)


# --- the check --------------------------------------------------------------------------


def test_a_check_that_fails_takes_the_version_back(server: Server) -> None:
    server.push(ONE)
    with pytest.raises(CheckFailed) as failed:
        server.push(TWO, check="echo no good; false")
    assert failed.value.details == ("no good",)
    assert server.revision() == revision(ONE)
    assert revision(TWO) in records(server).held.reasons()
    require_sound(server)


def kept_with(server: Server, path: bytes) -> list[int]:
    """The numbers of earlier versions that nobody may remove, and that have this path."""
    there = records(server)
    return [
        record.number
        for record in there.all()
        if record.kept_because and os.path.exists((there.tree(record) or b"") + b"/" + path)
    ]


def is_of_no_source(record: Record) -> bool:
    """Return whether no source may replace the version as its own."""
    return (record.source_revision, record.method, record.environment_id) == (
        record.revision,
        KEPT,
        "",
    )


def test_version_that_is_changed_during_its_failed_check_is_kept(server: Server) -> None:
    """The next push would build over it, else."""

    def install(step: str) -> None:
        if step == "check":
            disk.write(server.live + b"/lib/mine", b"a day of work")

    server.environment_id = "a" * 24
    server.push(ONE)
    with pytest.raises(CheckFailed) as failed:
        server.push(TWO, check="false", on_step=install)
    assert "it was changed meanwhile, and is kept as generation 2" in failed.value.details
    assert server.revision() == revision(ONE)
    assert is_of_no_source(records(server).all()[1])
    for version in (THREE, ONE, THREE):
        server.push(version)
    assert kept_with(server, b"lib/mine") == [2]
    require_sound(server)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_bars_no_way_back_but_it_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(step: str) -> None:
        if step == "check":
            disk.write(server.live + b"/lib/mine", b"a day of work")
            monkeypatch.setattr(Records, "store", full)

    server.push(ONE)
    with pytest.raises(CheckFailed) as failed:
        server.push(TWO, check="false", on_step=install)
    assert server.revision() == revision(ONE)
    told = failed.value.details[-1]
    assert "which could not be recorded" in told
    assert Path(told.rpartition(" ")[2], "lib/mine").read_text() == "a day of work"


def test_a_disk_that_fails_before_the_switch_leaves_no_interrupted_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageFailed("files cannot be read: its disk fails")

    def begin(step: str) -> None:
        if step == "sync":
            monkeypatch.setattr(Trees, "are_directories_unchanged", lambda *_: False)
            monkeypatch.setattr(Trees, "scan_again", fail)

    server.push(ONE)
    with pytest.raises(StorageFailed):
        server.push(TWO, on_step=begin)
    assert server.target().layout.interrupted() == ""
    assert server.revision() == revision(ONE)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EEXIST])
def test_switch_that_was_done_despite_a_reported_failure_is_completed(
    number: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where the answer may be lost; sent again, the request fails as done already."""
    give_to = LiveName.give_to

    def report_failure(name: LiveName, tree: bytes, *, is_free: bool = False) -> None:
        give_to(name, tree, is_free=is_free)
        raise OSError(number, os.strerror(number))

    for before in ("", revision(ONE)):
        with monkeypatch.context() as failing:
            failing.setattr(LiveName, "give_to", report_failure)
            with pytest.raises(StorageFailed, match="the new version is live"):
                server.push(TWO if before else ONE)
        state = server.target().inspect(lock=False)
        assert state.recovered == "an interrupted switch was completed"
        assert state.record is not None
        assert state.record.revision == state.revision != before
    require_sound(server)


def test_on_a_full_disk_a_rollback_says_that_it_was_done(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not to push again: that would be refused once it is complete."""
    server.push(ONE)
    server.push(TWO)
    target = server.target()
    with monkeypatch.context() as failing:

        def fail(step: str) -> None:
            if step == "record":
                failing.setattr(os, "fsync", full)

        target.on_step = fail
        with pytest.raises(NoSpace, match="the earlier version is live") as failed:
            switches.rollback(target, None, "alice@here", overwrite=False)
    target.lock.release()
    assert "push" not in failed.value.hint
    assert server.revision() == revision(ONE)
    assert server.target().inspect(lock=False).recovered
    assert revision(TWO) in records(server).held.reasons()


def test_on_a_full_disk_a_removal_says_whether_it_was_done(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)
    for calls, kind in ((("rename", "unlink"), OSError), (("fsync",), NoSpace)):
        target = server.target()
        with monkeypatch.context() as failing:

            def fail(step: str, calls: tuple[str, ...] = calls) -> None:
                for call in calls if step == "switch" else ():
                    failing.setattr(os, call, full)

            target.on_step = fail
            with pytest.raises(kind) as failed:
                switches.remove(target, "alice@here", overwrite=False)
        target.lock.release()
        recovered = server.target().inspect(lock=False).recovered
        is_there = os.path.lexists(server.live)
        assert is_there == ("rename" in calls)
        assert str(failed.value).startswith("it was removed there") != is_there
    assert recovered == "an interrupted removal was completed"
    assert records(server).history.removal()


def test_a_removal_that_the_system_refuses_leaves_nothing_to_finish(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)
    shift(server)
    known = records(server).all()
    target = server.target()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    target.on_step = lambda _: monkeypatch.setattr(LiveName, "take_away", refuse)
    with pytest.raises(PermissionError):
        switches.remove(target, "alice@here", overwrite=True)
    target.lock.release()
    assert not target.layout.interrupted()
    assert records(server).all() == known
    assert os.path.isdir(server.live)


def test_file_that_a_check_writes_where_it_runs_is_no_change(server: Server) -> None:
    server.push(ONE, check="echo x > report.txt")
    server.push(TWO)
    assert [record.number for record in records(server).all()] == [1, 2], "none is kept as changed"


def test_files_that_a_failed_check_leaves_keep_no_version(server: Server) -> None:
    """`.pytest_cache`, a core file: with each try there would be one more whole environment."""
    server.push(ONE)
    with pytest.raises(CheckFailed):
        server.push(TWO, check=f"{IN_IT}; mkdir .pytest_cache; echo x > .pytest_cache/x; false")
    assert not [record for record in records(server).all() if record.kept_because]


def test_failed_check_that_writes_to_a_file_of_no_package_keeps_nothing(server: Server) -> None:
    """As a log that the version brings."""
    logging = {**TWO, **with_parents({b"var/log": file(b"")})}
    server.push(ONE)
    with pytest.raises(CheckFailed):
        server.push(logging, check=f"{IN_IT}; date >> var/log; false")
    assert not [record for record in records(server).all() if record.kept_because]


def test_versions_that_failed_checks_change_alike_are_kept_once(server: Server) -> None:
    other = {**TWO, b"lib/more": file(b"more")}
    check = IN_IT + "; echo %s > bin/tool; rm lib/shared; false"
    server.push(ONE)
    for number, nodes in enumerate((TWO, other, TWO)):
        with pytest.raises(CheckFailed):
            server.push(nodes, check=check % "run", retry_held=True)
        assert [record.number for record in records(server).all()] == [1, number + 2]
    # In this one somebody works then.
    [tree] = [tree for tree in server.earlier() if not os.path.exists(tree + b"/lib/shared")]
    disk.write(tree + b"/lib/mine", b"a day of work")
    for what in ("run", "run", "something else"):
        with pytest.raises(CheckFailed):
            server.push(other, check=check % what, retry_held=True)
    assert [record.number for record in records(server).all()] == [1, 4, 6, 7]
    assert kept_with(server, b"lib/mine") == [4]


def test_version_changed_after_an_interrupted_switch_is_kept_if_it_fails(server: Server) -> None:
    server.push(ONE)
    die_in(lambda die: server.push(TWO, check="false", on_step=kill_at("switched", die)))
    assert server.revision() == revision(TWO)
    disk.write(server.live + b"/lib/mine", b"a day of work")
    with pytest.raises(CheckFailed):
        server.push(TWO)
    for version in (THREE, ONE, THREE):
        server.push(version)
    assert kept_with(server, b"lib/mine") == [2]


def test_version_changed_during_an_interrupted_switch_is_of_no_source(
    server: Server,
) -> None:
    def interrupted(die: Callable[[], None]) -> None:
        def on_step(step: str) -> None:
            if step == "switch":
                disk.write(server.live + b"/lib/mine", b"a day of work")
            if step == "switched":
                die()

        server.push(TWO, on_step=on_step)

    server.environment_id = "a" * 24
    server.push(ONE)
    die_in(interrupted)
    server.push(THREE)
    assert kept_with(server, b"lib/mine") == [1]
    assert is_of_no_source(records(server).all()[0])


def test_a_check_that_cannot_be_run_takes_the_version_back(server: Server) -> None:
    """And that is said of the check alone: nothing is held, and nobody is stuck with it."""
    server.push(ONE)
    with pytest.raises(CheckFailed, match="could not be run"):
        server.push(TWO, check=": " + "x" * 200_000)
    assert server.revision() == revision(ONE)
    assert not records(server).held.reasons()
    require_sound(server)
    server.push(TWO)
    assert server.revision() == revision(TWO)


def test_a_check_that_fails_on_the_first_push_leaves_nothing(server: Server) -> None:
    for _ in range(3):
        with pytest.raises(CheckFailed, match="nothing was published"):
            server.push(ONE, check="false", retry_held=True)
        assert not os.path.exists(server.live)
    server.push(ONE, check="true", retry_held=True)
    assert server.revision() == revision(ONE)
    assert not records(server).held.reasons()


def test_a_check_sees_the_new_version_at_its_place(server: Server) -> None:
    server.push(ONE)
    prefix = os.fsdecode(server.live)
    server.push(
        TWO, check=f'[ "$(cat $CONDA_PREFIX/bin/tool)" = two ] && [ $CONDA_PREFIX = "{prefix}" ]'
    )
    assert server.revision() == revision(TWO)


# --- damage, and errors -----------------------------------------------------------------


def test_an_error_while_publishing_leaves_the_lock_free(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    server.push(ONE)
    monkeypatch.setattr(filesystem, "sync_filesystem", full)
    with pytest.raises((OSError, EnvsyncError)):
        server.push(TWO)
    monkeypatch.undo()
    assert server.revision() == revision(ONE)
    server.push(TWO)
    assert server.revision() == revision(TWO)


def test_a_file_that_did_not_arrive_is_named(server: Server) -> None:
    """... also where it is the first name of several, and where copies are made of it."""
    nodes = environment(
        {
            b"a": file(b"linked", inode=1),
            b"b": file(b"linked", inode=1),
            b"c": file(b"twice"),
            b"d": file(b"twice"),
            b"e": file(b"alone"),
        }
    )
    with server.staged(nodes) as push, pytest.raises(VerificationFailed) as failed:
        push.complete()
    assert set(failed.value.details) >= {"a", "b", "c", "d", "e"}
    assert not os.path.exists(server.live)
    server.push(nodes)
    assert server.manifest() == manifest_of(nodes)


def test_local_paths_never_lead_out(server: Server, tmp_path: Path) -> None:
    """Neither copied nor removed through a directory that became a link."""
    outside = tmp_path / "outside"
    (outside / "local").mkdir(parents=True)
    (outside / "local" / "precious").write_text("precious")
    linked = {**ONE, b"share": symlink(os.fsencode(outside))}
    held = {**ONE, b"share/kept": file(), b"share": directory()}
    for nodes in (held, linked, held, linked):
        if os.path.isdir(server.live + b"/share") and not os.path.islink(server.live + b"/share"):
            os.makedirs(server.live + b"/share/deep/local", exist_ok=True)
            disk.write(server.live + b"/share/deep/local/mine", b"mine")
            if nodes is linked:
                with pytest.raises(PreflightRefused, match="cannot be carried"):
                    server.push(nodes, local=("share/**/local",))
                shutil.rmtree(server.live + b"/share/deep")
        server.push(nodes, local=("share/**/local",))
    assert sorted(path.name for path in outside.rglob("*")) == ["local", "precious"]
