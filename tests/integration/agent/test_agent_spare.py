"""A tree made ready for the next push, while there is none."""

from __future__ import annotations

import errno
import grp
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envsync.agent.places import locks
from envsync.agent.places.layout import Layout
from envsync.agent.places.staging_note import find_staging
from envsync.agent.server.filesystem import Space
from envsync.agent.staging import choice
from envsync.agent.staging.staging import Staging
from envsync.agent.target import health, inspection, spare
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.target.push import TargetPush
from envsync.agent.target.target import Target
from envsync.agent.wire.messages import ORIGIN_NEW, Finding, PlanFacts
from envsync.errors import Locked, PreflightRefused, VerificationFailed
from tests.support import disk
from tests.support.processes import wait_until
from tests.support.pushes import Server, die_in, environment
from tests.support.trees import Tree, file, manifest_of, symlink, totals_of

LIBRARIES = {b"lib/%03d" % number: file(b"library %d" % number) for number in range(200)}
VERSIONS = [
    environment(
        {**LIBRARIES, b"bin/tool": file(b"version %d" % n, 0o755), b"bin/t": symlink(b"tool")}
    )
    for n in range(5)
]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """One version published; nothing is there that the next could be built on."""
    server = Server(tmp_path)
    server.push(VERSIONS[0])
    return server


def planned(server: Server, nodes: Tree, keep: int = 1) -> PlanFacts:
    """What a push of this would do; it is not carried on."""
    target = server.target()
    target.keep = keep
    try:
        target.inspect(lock=True)
        push = TargetPush(target)
        staged = push.stage(manifest_of(nodes))
        push.staging.close()
        return staged.facts
    finally:
        target.lock.release()


def test_next_push_is_built_on_the_spare_tree(server: Server) -> None:
    assert planned(server, VERSIONS[1]).copy_files == 201
    server.push(VERSIONS[1], keep=3)
    assert server.make_spare(keep=3)
    facts = planned(server, VERSIONS[2], keep=3)
    assert (facts.origin, facts.copy_files, facts.fetch_files) == ("spare", 0, 1)
    server.push(VERSIONS[2], keep=3)
    assert server.manifest() == manifest_of(VERSIONS[2])


@pytest.mark.parametrize("keep", [1, 3], ids=["an earlier version", "a spare"])
@pytest.mark.parametrize(
    ("place", "function"),
    [(Layout, "other_trees"), (choice, "may_build_on")],
    ids=["once it is found", "once it is chosen"],
)
def test_dry_run_goes_on_where_another_push_takes_the_spare_tree(
    place: object, function: str, keep: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run holds no lock."""
    server.push(VERSIONS[1], keep=keep)
    assert keep == 1 or server.make_spare(keep=keep)
    plain, trees = getattr(place, function), server.state / "trees"

    def meddled(*arguments: object) -> object:
        found = plain(*arguments)
        if trees.exists():
            trees.rename(trees.with_name("taken"))
        return found

    monkeypatch.setattr(place, function, meddled)
    target = server.target()
    target.keep = keep
    preview = TargetPush(target).preview(manifest_of(VERSIONS[2]))
    assert preview.facts.origin == ORIGIN_NEW


def test_dry_run_after_a_rollback_plans_on_the_tree_that_a_push_would_build_on(
    server: Server,
) -> None:
    for version in VERSIONS[1:3]:
        server.push(version, keep=2)
    server.rollback()
    target = server.target()
    target.keep = 2
    target.inspect(lock=False)
    previewed = TargetPush(target).preview(manifest_of(VERSIONS[2])).facts
    assert previewed.fetch_files == planned(server, VERSIONS[2], keep=2).fetch_files == 0


def test_failed_spare_tree_bars_no_later_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    os.chmod(server.live, 0o2755)
    with monkeypatch.context() as refusing:
        refusing.setattr(spare, "hand_down", refuse)
        with pytest.raises(PermissionError):
            server.make_spare()
    assert server.earlier() == []
    assert server.make_spare()


def test_spare_tree_takes_the_room_of_an_earlier_version(server: Server) -> None:
    """Where there are as many as `keep` says, the next push is built on the oldest."""
    assert not server.make_spare(keep=0)
    assert server.make_spare(keep=1)
    assert not server.make_spare(keep=1), "there is one"
    server.push(VERSIONS[1])
    assert len(server.earlier()) == 1
    assert not server.make_spare(keep=1)
    assert planned(server, VERSIONS[2]).origin == "spare"


def test_spare_tree_is_not_made_of_a_changed_version(server: Server) -> None:
    Path(os.fsdecode(server.live), "bin/tool").write_bytes(b"changed by hand")
    assert not server.make_spare()
    assert server.earlier() == []


def test_a_disk_that_has_no_room_to_spare(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much again stays free for others."""
    size_bytes = totals_of(server.manifest()).size_bytes
    monkeypatch.setattr(spare, "space", lambda _: Space(int(1.5 * size_bytes), None))
    assert not server.make_spare()
    monkeypatch.setattr(spare, "space", lambda _: Space(1 << 40, 300))
    assert not server.make_spare()
    assert (server.earlier(), find_staging(server.target().layout)) == ([], None)


@pytest.mark.skipif(os.geteuid() != 0, reason="another group needs root")
def test_spare_tree_belongs_to_the_group_that_shares_the_environment(server: Server) -> None:
    gid = next(found.gr_gid for found in grp.getgrall() if found.gr_gid >= 100)
    for path in (Path(os.fsdecode(server.live)), *Path(os.fsdecode(server.live)).rglob("*")):
        os.chown(path, -1, gid, follow_symlinks=False)
        if path.is_dir():
            path.chmod(0o2775)
    assert server.make_spare()
    [tree] = server.earlier()
    found = [Path(os.fsdecode(tree)), *Path(os.fsdecode(tree)).rglob("*")]
    assert {path.lstat().st_gid for path in found} == {gid}


def test_spare_tree_that_is_not_wanted_costs_no_look_and_no_lock(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon asks so of every server after its start."""
    server.make_spare()
    monkeypatch.setattr(Target, "look", None)
    pushing = server.target()
    pushing.lock.acquire()
    assert not server.make_spare(keep=1), "there is one"
    assert not server.make_spare(keep=0), "there may be none"
    pushing.lock.release()


def test_spare_tree_is_not_made_beside_a_push_or_another_maker(server: Server) -> None:
    for yields in (False, True):
        other = server.target()
        other.lock.yields = yields
        other.lock.acquire()
        with pytest.raises(Locked, match="another push"):
            server.make_spare()
        assert not other.lock.is_wanted()
        other.lock.release()


def test_an_installer_there_is_waited_for_by_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = (Finding("busy", "pip (process 12) is changing it", True),)
    monkeypatch.setattr(inspection, "live_busy_findings", lambda *_, **__: busy)
    with pytest.raises(PreflightRefused, match="pip"):
        server.make_spare()
    assert server.earlier() == []
    server.target().lock.acquire()


@pytest.mark.parametrize(("count", "is_hashed"), [(0, True), (0, False), (200, True)])
def test_push_does_not_wait_for_a_spare_tree_that_is_being_made(
    server: Server, count: int, is_hashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes it gives it up, from the first look to the last file."""
    if not is_hashed:
        shutil.rmtree(server.cache)
    monkeypatch.setattr(spare, "_LOOK_SECONDS", 0.0)
    numbers, reached, lock = itertools.count(), threading.Event(), server.target().lock

    def pausing(_: int) -> None:
        if next(numbers) == count:
            reached.set()
            wait_until(lock.is_wanted, "a push waits for it", timeout_seconds=30)

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(server.make_spare, 1, pausing)
        assert reached.wait(30)
        server.push(VERSIONS[1])
        with pytest.raises(Locked, match="needs the lock"):
            making.result(30)
    assert server.manifest() == manifest_of(VERSIONS[1])
    assert len(server.earlier()) == 1


def test_push_does_not_wait_for_a_suspended_maker_of_a_spare_tree(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended, for instance."""
    monkeypatch.setattr(locks, "YIELD_SECONDS", 0.1)
    making = server.target()
    making.lock.yields = True
    making.lock.acquire()
    with pytest.raises(Locked, match="did not stop: alice@here"):
        server.push(VERSIONS[1])
    making.lock.release()
    server.push(VERSIONS[1])


@pytest.mark.parametrize("count", [0, 100, 200])
def test_next_push_goes_on_with_a_half_made_spare_tree(server: Server, count: int) -> None:
    seen = 0

    def dying(die: Callable[[], None]) -> Callable[[int], None]:
        def progress(_: int) -> None:
            nonlocal seen
            seen += 1
            if seen > count:
                die()

        return progress

    die_in(lambda die: server.make_spare(1, dying(die)))
    note = find_staging(server.target().layout)
    assert note is None or not note.is_set_aside
    server.push(VERSIONS[1])
    assert server.manifest() == manifest_of(VERSIONS[1])
    assert len(server.earlier()) == 1


def test_version_that_changes_while_it_is_copied_gives_no_spare_tree(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of it, and the change is found by the next push as it always is."""
    bring_forward = Staging.bring_forward

    def changed_first(*arguments: object) -> object:
        Path(os.fsdecode(server.live), "bin/tool").write_bytes(b"changed now")
        return bring_forward(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Staging, "bring_forward", changed_first)
    with pytest.raises(VerificationFailed):
        server.make_spare()
    assert server.earlier() == []
    assert not (server.state / "staging.json").exists()


def test_spare_tree_that_was_written_to_is_mended_by_the_next_push(server: Server) -> None:
    server.make_spare()
    [tree] = map(os.fsdecode, server.earlier())
    Path(tree, "lib/007").write_bytes(b"by somebody")
    Path(tree, "lib/008").unlink()
    server.push(VERSIONS[1])
    assert disk.read(server.live) == VERSIONS[1]


def test_dry_run_of_gc_says_that_a_spare_tree_is_being_made(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what stands there is told as ever."""
    monkeypatch.setattr(spare, "_LOOK_SECONDS", 0.0)
    numbers, reached, go_on = itertools.count(), threading.Event(), threading.Event()

    def pausing(_: int) -> None:
        if next(numbers) == 100:
            reached.set()
            assert go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(server.make_spare, 2, pausing)
        assert reached.wait(30)
        looked = sweep(server.target(), Rules(2, False, True, 2e9))
        assert looked.making.startswith("alice@here, process ")
        assert (looked.locked, looked.unfinished, looked.size_bytes) == ("", 0, 0)
        [standing] = health._standing(str(server.prefix), lambda _: server.target().environment)
        assert standing.state == "published"
        go_on.set()
        assert making.result(30)


def test_gc_leaves_a_spare_tree_in_the_room_of_an_earlier_version(server: Server) -> None:
    server.make_spare(keep=2)
    for dry_run in (True, False):
        swept = sweep(server.target(), Rules(2, False, dry_run, 2e9))
        assert (swept.unfinished, swept.size_bytes) == (0, 0)
    assert planned(server, VERSIONS[1]).origin == "spare"
    # That was a push which did not end: an ordinary remain.
    assert sweep(server.target(), Rules(2, False, False, 2e9)).unfinished == 1

    server.make_spare(keep=2)
    assert sweep(server.target(), Rules(0, False, False, 2e9)).unfinished == 1
    assert server.earlier() == []
    assert not (server.state / "staging.json").exists()


def test_a_spare_tree_of_an_environment_that_is_gone_goes(server: Server) -> None:
    server.make_spare(keep=2)
    os.rename(server.live, server.live + b".elsewhere")
    assert sweep(server.target(), Rules(2, False, False, 2e9)).unfinished == 1
