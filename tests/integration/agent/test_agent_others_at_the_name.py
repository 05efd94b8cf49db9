"""What others do with the name between two steps, or before an interrupted switch is finished.

Nothing of it is lost: it stands at the name still, or is a generation.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.target import switches
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.wire.messages import RecordFacts
from envsync.errors import TargetDrifted
from envsync.tree.revision import revision_of
from tests.support import disk
from tests.support.interference import refuse_exchange, written_to
from tests.support.pushes import Server, die_in, environment, records, require_sound
from tests.support.trees import Tree, file, manifest_of

ONE = environment({b"bin/tool": file(b"one", 0o755), b"lib/shared": file(b"the same")})
TWO = environment({b"bin/tool": file(b"two", 0o755), b"lib/shared": file(b"the same")})
THREE = environment({b"bin/tool": file(b"three", 0o755)})
MINE = environment({b"bin/mine": file(b"made by hand", 0o755)})


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


def make_by_hand(server: Server, nodes: Tree = MINE) -> None:
    """An environment at the name, as `conda create` makes one."""
    os.mkdir(server.live)
    disk.build(server.live, nodes)


def move_away(server: Server) -> None:
    os.rename(server.live, server.live + b"-moved")


def remove(
    server: Server, overwrite: bool = False, on_step: Callable[[str], None] = lambda _: None
) -> RecordFacts:
    target = server.target()
    target.on_step = on_step
    try:
        return switches.remove(target, "bob@here", overwrite)
    finally:
        target.lock.release()


def at(step: str, action: Callable[[], object]) -> Callable[[str], None]:
    def reached(name: str) -> None:
        if name == step:
            action()

    return reached


def collect(server: Server) -> None:
    sweep(server.target(), Rules(keep=9, drifted=False, dry_run=False, now_seconds=0.0))


def somewhere(server: Server) -> set[str]:
    """The revisions of all that stands at the name or is kept."""
    trees = [server.target().layout.standing(), *server.earlier()]
    return {disk.uncached().snapshot(tree).revision for tree in trees if os.path.isdir(tree)}


# --- in the moment of a switch ----------------------------------------------------------


def test_an_environment_that_appears_in_the_moment_of_the_switch(server: Server) -> None:
    with pytest.raises(TargetDrifted, match="appeared"):
        server.push(ONE, on_step=at("switch", lambda: make_by_hand(server)))
    assert server.revision() == revision(MINE)
    collect(server)
    assert server.revision() == revision(MINE)


def test_killed_where_an_environment_appeared_in_that_moment(server: Server) -> None:
    """Whoever finishes the switch has nothing to compare with."""

    def push(die: Callable[[], None]) -> None:
        def reached(name: str) -> None:
            if name == "switch":
                make_by_hand(server)
                die()

        server.push(ONE, on_step=reached)

    die_in(push)
    state = server.target().inspect(lock=False)
    assert state.recovered == "an interrupted switch had not happened"
    collect(server)
    assert server.revision() == revision(MINE)


def test_live_version_that_changes_from_the_switch_on_is_put_back(server: Server) -> None:
    server.push(ONE)
    with contextlib.ExitStack() as stack:
        path = server.target().layout.standing() + b"/lib/shared"
        begin = at("switch", lambda: stack.enter_context(written_to(path)))
        with pytest.raises(TargetDrifted, match="undone"):
            server.push(TWO, on_step=begin)
        assert server.tree()[b"bin/tool"].data == b"one"
    assert not (server.state / "intent.json").exists()


def test_version_written_to_when_the_switch_is_killed_is_kept_for_good(server: Server) -> None:
    server.push(ONE)
    path = server.target().layout.standing() + b"/lib/shared"
    with open(path, "ab", buffering=0) as log:

        def push(die: Callable[[], None]) -> None:
            server.push(TWO, on_step=at("switched", die))

        die_in(push)
        tree = next(t for t in server.earlier())
        assert os.fstat(log.fileno()).st_ino == os.stat(tree + b"/lib/shared").st_ino
        with written_to(tree + b"/lib/shared"):
            state = server.target().inspect(lock=True)
    assert state.revision == revision(TWO)
    [kept] = [record for record in records(server).all() if record.kept_because]
    assert kept.inode == os.stat(tree).st_ino


# --- a removal --------------------------------------------------------------------------


def test_environment_that_takes_the_name_during_a_removal_stays(server: Server) -> None:
    server.push(ONE)

    def replace() -> None:
        move_away(server)
        make_by_hand(server)

    with pytest.raises(TargetDrifted):
        remove(server, on_step=at("switch", replace))
    assert server.revision() == revision(MINE)
    collect(server)
    assert server.revision() == revision(MINE)


def die_in_a_removal_of_another_tree(server: Server) -> None:
    def action(die: Callable[[], None]) -> None:
        def reached(name: str) -> None:
            if name == "switch":
                move_away(server)
                make_by_hand(server)
            elif name == "switched":
                die()

        remove(server, on_step=reached)

    die_in(action)


def test_removal_killed_where_another_tree_took_the_name_is_recovered(server: Server) -> None:
    server.push(ONE)
    die_in_a_removal_of_another_tree(server)
    server.target().inspect(lock=False)
    collect(server)
    assert revision(MINE) in somewhere(server)


def test_killed_there_and_the_name_is_taken_again(server: Server) -> None:
    """Then it cannot have its name back, and is a generation."""
    server.push(ONE)
    die_in_a_removal_of_another_tree(server)
    make_by_hand(server, THREE)
    server.target().inspect(lock=False)
    collect(server)
    assert server.revision() == revision(THREE)
    assert revision(MINE) in somewhere(server)


def test_killed_and_another_is_made_at_the_name(server: Server) -> None:
    """What was changed by hand and removed is a generation, whatever stands there now."""
    server.push(ONE)
    disk.shift_content(server.live + b"/lib/shared")
    changed = server.revision()
    die_in(lambda die: remove(server, overwrite=True, on_step=at("switched", die)))
    make_by_hand(server)
    server.target().inspect(lock=False)
    server.push(TWO)
    collect(server)
    assert {changed, revision(MINE), revision(TWO)} <= somewhere(server)
    require_sound(server)


# --- a switch that was interrupted ------------------------------------------------------


@pytest.mark.parametrize("step", ["switched", "check", "record"])
@pytest.mark.parametrize("then", ["moved away", "replaced"])
def test_killed_and_the_new_version_is_taken_away(step: str, then: str, server: Server) -> None:
    """What was overwritten, and never published, is a generation all the same.

    Or it has the name again, where that is missing and had become a link.
    """
    make_by_hand(server, ONE)
    die_in(lambda die: server.push(TWO, on_step=at(step, die)))
    was_link = os.path.islink(server.live)
    move_away(server)
    if then == "replaced":
        make_by_hand(server)
    recovered = server.target().inspect(lock=False).recovered
    if was_link and then == "moved away":
        assert recovered == "an interrupted switch was undone"
        assert server.revision() == revision(ONE)
    else:
        assert recovered == "an interrupted switch had happened, and was undone by hand since"
    server.push(THREE)
    collect(server)
    assert revision(ONE) in somewhere(server)
    assert server.revision() == revision(THREE)


# --- after a restore from a backup ------------------------------------------------------


def restore(server: Server) -> None:
    """What stands at the name is the same, and has another inode."""
    place = os.fsdecode(server.target().layout.standing())
    subprocess.run(["cp", "-a", place, place + ".restored"], check=True)
    Path(place).rename(server.prefix / "lost")
    Path(place + ".restored").rename(place)


def test_a_restored_version_is_a_generation_after_the_next_push(server: Server) -> None:
    server.push(ONE)
    restore(server)
    server.push(TWO)
    collect(server)
    require_sound(server)
    server.rollback()
    assert server.revision() == revision(ONE)


def test_a_restored_version_is_a_generation_after_a_rollback(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    restore(server)
    server.rollback()
    collect(server)
    require_sound(server)
    server.rollback(2)
    assert server.revision() == revision(TWO)


def test_a_restored_version_is_a_generation_after_its_removal(server: Server) -> None:
    server.push(ONE)
    restore(server)
    remove(server)
    assert revision(ONE) in somewhere(server)
    server.rollback(1)
    assert server.revision() == revision(ONE)


def test_a_copy_of_an_earlier_version_is_a_generation_of_its_own(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    [earlier] = server.earlier()
    move_away(server)
    subprocess.run(["cp", "-a", earlier, server.live], check=True)
    server.push(THREE, keep=9)
    collect(server)
    kept = [tree for tree in server.earlier() if disk.read(tree) == ONE]
    assert len(kept) == 2
    require_sound(server)


def test_an_environment_that_appears_while_a_directory_becomes_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is free for a moment then; who had it has no record yet."""
    server = Server(tmp_path)
    make_by_hand(server, ONE)
    refuse_exchange(monkeypatch)
    with pytest.raises(TargetDrifted, match="appeared"):
        server.push(TWO, on_step=at("converting", lambda: make_by_hand(server)))
    assert server.revision() == revision(MINE)
    collect(server)
    assert {revision(ONE), revision(MINE)} <= somewhere(server)
    server.push(THREE)
    collect(server)
    assert {revision(ONE), revision(MINE), revision(THREE)} <= somewhere(server)
    require_sound(server)
