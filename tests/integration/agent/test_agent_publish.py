"""Whole pushes on a real disk: what stands there after each, and after dying in each step.

A reader sees the old version or the new one, never a mixture; the next push succeeds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.agent import conclusion, filesystem, staging_note
from envsync.agent import records as recording
from envsync.agent.local_paths import carry
from envsync.errors import (
    CheckFailed,
    EnvsyncError,
    Locked,
    NotFound,
    PreflightRefused,
    TargetDrifted,
    VerificationFailed,
)
from envsync.tree.revision import revision_of
from tests.integration.agent.conftest import refuse_exchange
from tests.unit.agent import disk
from tests.unit.agent.conftest import memory
from tests.unit.agent.pushes import Server, die_in, environment, records, require_sound
from tests.unit.tree.trees import Node, Tree, directory, file, manifest_of, symlink, trees, variants

ONE = environment({b"bin/tool": file(b"one", 0o755), b"lib/shared": file(b"the same")})
TWO = environment({b"bin/tool": file(b"two", 0o755), b"lib/shared": file(b"the same")})
THREE = environment({b"bin/tool": file(b"three", 0o755), b"etc/x": symlink(b"../bin")})
STEPS = ["intent", "sync", "switch", "switched", "check", "record", "recorded"]


@pytest.fixture(params=["swapped", "linked"])
def server(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Server:
    """One whose filesystem swaps directories, and one on which names are links instead."""
    if request.param == "linked":
        refuse_exchange(monkeypatch)
    return server


def revision(nodes: Tree) -> str:
    return revision_of(manifest_of(nodes))


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


def test_only_the_user_may_look_into_the_state(server: Server) -> None:
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
def test_what_does_not_belong_to_it_never_stands_in_the_way(
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
        found = server.target(["local", "lib/local"]).snapshot()
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


def test_half_of_a_local_file_does_not_go_along(tmp_path: Path) -> None:
    """Where it cannot be copied to its end, as on a disk that is full."""
    live, staging = (os.fsencode(tmp_path / name) for name in ("live", "staging"))
    for path in (live + b"/settings", staging):
        os.makedirs(path)
    for path in (b"/large", b"/settings/large"):
        disk.write(live + path, b"x" * 50_000)
    disk.write(live + b"/settings/small", b"mine")

    def copy(_: Callable[[], None]) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        carry(live, [b"large", b"settings"], staging)

    assert die_in(copy) == 0
    assert disk.read(staging).keys() == {b"settings", b"settings/small"}


def test_directories_without_write_permission(server: Server) -> None:
    """Permissions count for an ordinary user; root can only check that they arrive."""
    nodes = {**ONE, b"lib": directory(0o555)}
    for version in (nodes, TWO, {**nodes, b"lib/x": file()}, TWO, nodes):
        server.push(version)
        assert server.manifest() == manifest_of(version)


# --- drift ------------------------------------------------------------------------------


def shift(server: Server) -> None:
    disk.shift_content(server.live + b"/lib/shared")


def test_a_change_before_the_switch_stops_it(server: Server) -> None:
    server.push(ONE)
    with pytest.raises(TargetDrifted):
        server.push(TWO, before_publish=lambda: shift(server))
    assert server.tree()[b"bin/tool"].data == b"one"
    server.push(TWO)
    assert server.revision() == revision(TWO)


def test_a_change_in_the_moment_of_the_switch_undoes_it(server: Server) -> None:
    server.push(ONE)
    with pytest.raises(TargetDrifted, match="undone"):
        server.push(TWO, on_step=lambda step: shift(server) if step == "switch" else None)
    assert server.tree()[b"bin/tool"].data == b"one"
    assert server.tree()[b"lib/shared"].data != b"the same", "the change itself is not lost"
    server.push(TWO)
    assert server.revision() == revision(TWO)
    require_sound(server)


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


def test_what_was_changed_by_hand_is_kept_for_ever(server: Server) -> None:
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
    assert revision(TWO) in records(server).held()
    require_sound(server)


def test_a_check_that_cannot_be_run_takes_the_version_back(server: Server) -> None:
    """And that is said of the check alone: nothing is held, and nobody is stuck with it."""
    server.push(ONE)
    with pytest.raises(CheckFailed, match="could not be run"):
        server.push(TWO, check=": " + "x" * 200_000)
    assert server.revision() == revision(ONE)
    assert not records(server).held()
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
    assert not records(server).held()


def test_a_check_sees_the_new_version_at_its_place(server: Server) -> None:
    server.push(ONE)
    prefix = os.fsdecode(server.live)
    server.push(TWO, check=f'[ "$(cat bin/tool)" = two ] && [ "$CONDA_PREFIX" = "{prefix}" ]')
    assert server.revision() == revision(TWO)


# --- rollback ---------------------------------------------------------------------------


def test_rollback_gives_the_old_bytes_back_exactly(server: Server) -> None:
    server.push(ONE)
    before = server.manifest()
    server.push(TWO)
    server.rollback()
    assert server.manifest() == before
    assert revision(TWO) in records(server).held()
    require_sound(server)


def test_rollback_goes_further_back_each_time_and_forward_by_number(server: Server) -> None:
    for version in (ONE, TWO, THREE):
        server.push(version, keep=2)
    back = [server.rollback().revision for _ in range(2)]
    assert back == [revision(TWO), revision(ONE)]
    with pytest.raises(NotFound):
        server.rollback()
    assert server.rollback(3).revision == server.revision() == revision(THREE)
    require_sound(server)


def test_what_was_rolled_back_is_not_gone_back_to_after_the_next_push(server: Server) -> None:
    for version in (ONE, TWO):
        server.push(version, keep=3)
    server.rollback()
    server.push(THREE, keep=3)
    assert server.rollback().revision == revision(ONE)
    assert server.rollback(2).revision == revision(TWO), "but by its number"
    require_sound(server)


def test_the_version_that_a_push_replaces_stays_also_after_a_rollback(server: Server) -> None:
    """It is older then than what was rolled back, which a job may still write into."""
    server.push(ONE)
    server.push(TWO)
    server.rollback()
    (rolled_back,) = server.earlier()
    disk.write(rolled_back + b"/lib/late", b"by a job")
    server.push(THREE)
    assert server.rollback().revision == server.revision() == revision(ONE)


def test_rollback_of_a_changed_environment_is_refused_until_told(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    shift(server)
    with pytest.raises(TargetDrifted):
        server.rollback()
    server.rollback(overwrite=True)
    assert server.revision() == revision(ONE)
    require_sound(server)


def test_rollback_to_a_damaged_generation_is_refused(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    (tree,) = server.earlier()
    disk.shift_content(tree + b"/lib/shared")
    with pytest.raises(PreflightRefused, match="changed"):
        server.rollback()
    assert server.revision() == revision(TWO)


@pytest.mark.parametrize("number", [None, 7])
def test_rollback_to_nothing(number: int | None, server: Server) -> None:
    server.push(ONE)
    with pytest.raises(NotFound):
        server.rollback(number)


# --- dying ------------------------------------------------------------------------------


def kill_at(step: str, die: Callable[[], None]) -> Callable[[str], None]:
    return lambda reached: die() if reached == step else None


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [None, ONE], ids=["first push", "later push"])
def test_killed_in_a_push(before: Tree | None, step: str, server: Server) -> None:
    if before is not None:
        server.push(before)
    died = die_in(lambda die: server.push(TWO, on_step=kill_at(step, die)))
    assert died == signal.SIGKILL
    assert server.revision() in {revision(TWO), "" if before is None else revision(before)}
    switched = STEPS.index(step) >= STEPS.index("switched")
    assert (server.revision() == revision(TWO)) is switched

    state = server.target().inspect(lock=False)  # as every question does
    assert state.revision == server.revision()
    if server.revision():
        require_sound(server)
        current = server.target().current(server.target().snapshot())
        assert current is not None
        assert current.revision == server.revision()

    server.push(THREE)
    assert server.manifest() == manifest_of(THREE)
    require_sound(server)


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_overwriting_a_change(step: str, server: Server) -> None:
    """What was changed by hand is a generation afterwards, or still stands there."""
    server.push(ONE)
    shift(server)
    changed = server.revision()
    died = die_in(lambda die: server.push(TWO, on_step=kill_at(step, die)))
    assert died == signal.SIGKILL
    server.push(THREE)
    assert changed in [record.revision for record in records(server).all()]
    require_sound(server)


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_rollback(step: str, server: Server) -> None:
    server.push(ONE)
    server.push(TWO)

    died = die_in(lambda die: server.rollback(on_step=kill_at(step, die)))
    assert died == signal.SIGKILL
    assert server.revision() in {revision(ONE), revision(TWO)}
    server.target().inspect(lock=False)
    require_sound(server)
    server.push(THREE)
    require_sound(server)


@pytest.mark.parametrize(
    ("call", "modules"),
    [
        pytest.param("write_json", [recording], id="at each record"),
        pytest.param("remove", [recording, staging_note], id="at each file that goes"),
        pytest.param("run_check", [conclusion], id="in the check"),
    ],
)
@pytest.mark.parametrize("number", range(3))
def test_killed_between_the_steps(
    call: str, modules: list[ModuleType], number: int, server: Server
) -> None:
    """... with a check that fails, so that the way back is walked as well."""
    server.push(ONE)

    def push(die: Callable[[], None]) -> None:
        left = [number]

        def counted(original: Callable[..., object]) -> Callable[..., object]:
            def inner(*arguments: object, **named: object) -> object:
                if not left[0]:
                    die()
                left[0] -= 1
                return original(*arguments, **named)

            return inner

        for module in modules:
            setattr(module, call, counted(getattr(module, call)))
        server.push(TWO, check="false")

    die_in(push)
    assert server.revision() in {revision(ONE), revision(TWO)}
    try:
        server.push(THREE)
    except CheckFailed:  # the interrupted one is taken back first, and says so
        server.push(THREE)
    assert server.revision() == revision(THREE)
    assert revision(TWO) not in [record.revision for record in records(server).all()]
    require_sound(server)


def test_killed_in_the_transfer(server: Server) -> None:
    """What had arrived does not have to come again."""
    server.push(ONE)
    died = die_in(lambda die: server.push(TWO, before_publish=die))
    assert died == signal.SIGKILL
    assert server.revision() == revision(ONE)
    with server.staged(TWO) as push:
        assert push.staging.origin == "resumed"
        assert push.complete().revision == revision(TWO), "with nothing transferred"


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


# --- damage -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"new": 1}', '{"new": {}, "kept": null}', "\0" * 4096]
)
def test_a_damaged_intent_stands_in_nobodys_way(text: str, server: Server) -> None:
    server.push(ONE)
    (server.state / "intent.json").write_text(text)
    server.push(TWO)
    assert server.revision() == revision(TWO)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"inode": "x"}'])
@pytest.mark.parametrize("name", ["staging.json", "held.json", "lock", "history.jsonl"])
def test_a_damaged_file_stands_in_nobodys_way(name: str, text: str, server: Server) -> None:
    server.push(ONE)
    (server.state / name).write_text(text)
    server.push(TWO)
    assert server.revision() == revision(TWO)


def test_a_damaged_record_makes_the_version_unknown_not_lost(server: Server) -> None:
    server.push(ONE)
    (record,) = (server.state / "generations").glob("*.json")
    record.write_text(json.dumps({"number": "one"}))
    server.push(TWO)
    kept = [r for r in records(server).all() if r.kept_because]
    assert [r.revision for r in kept] == [revision(ONE)]


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


def test_two_pushes_at_once(server: Server) -> None:
    first = server.target()
    first.inspect(lock=True)
    with pytest.raises(Locked, match="alice@here"):
        server.push(ONE)
    first.lock.release()
    server.push(ONE)


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
        server.push(nodes, local=("share/**/local",))
    assert sorted(path.name for path in outside.rglob("*")) == ["local", "precious"]
