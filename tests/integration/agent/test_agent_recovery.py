"""Dying in each step of a push and of a rollback, and damage to the note of a switch.

A reader sees the old version or the new one, never a mixture; the next push succeeds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from unittest import mock

import pytest

from envsync.agent.places.layout import INTENT
from envsync.agent.places.locks import PushLock
from envsync.agent.places.state_files import read_checked, write_checked
from envsync.agent.publishing import after_switch, recovery
from envsync.agent.target.catalogue import environments
from envsync.agent.wire.messages import KEPT
from envsync.agent.wire.target_operations import Requester
from envsync.errors import CheckFailed
from envsync.tree.revision import short
from tests.integration.agent.versions import (
    ONE,
    STEPS,
    THREE,
    TWO,
    kill_at,
    revision,
    shift,
)
from tests.support import disk
from tests.support.interference import die_at_change
from tests.support.pushes import Server, die_in, records, require_sound
from tests.support.trees import Tree, manifest_of

pytestmark = pytest.mark.usefixtures("each_way")


@pytest.mark.parametrize("error", [OSError("Stale file handle"), TypeError("a bug")])
def test_look_without_the_lock_hides_what_the_next_holder_reports_but_no_bug(
    error: Exception, server: Server
) -> None:
    die_in(lambda die: server.push(ONE, on_step=kill_at("switched", die)))
    expected = pytest.raises(TypeError) if isinstance(error, TypeError) else nullcontext()
    with mock.patch.object(recovery, "recover_switch", side_effect=error), expected:
        assert server.target().inspect(lock=False).recovered is None


def require_live_on_record(server: Server) -> None:
    require_sound(server)
    current = server.target().look().record
    assert current is not None
    assert current.revision == server.revision()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [None, ONE], ids=["first push", "later push"])
def test_killed_in_a_push(before: Tree | None, step: str, server: Server) -> None:
    if before is not None:
        server.push(before)
    die_in(lambda die: server.push(TWO, on_step=kill_at(step, die)))
    assert server.revision() in {revision(TWO), "" if before is None else revision(before)}
    switched = STEPS.index(step) >= STEPS.index("switched")
    assert (server.revision() == revision(TWO)) is switched

    state = server.target().inspect(lock=False)  # as every question does
    assert state.revision == server.revision()
    if server.revision():
        require_live_on_record(server)

    server.push(THREE)
    assert server.manifest() == manifest_of(THREE)
    require_sound(server)


def test_a_version_that_is_not_on_record_yet_is_listed_with_its_publication(server: Server) -> None:
    def problem() -> str:
        [listed] = environments(str(server.prefix), ("local",), {}, server.cache)
        return listed.problem

    server.push(ONE)
    assert problem() == ""
    die_in(lambda die: server.push(TWO, on_step=kill_at("switched", die)))
    version = short(revision(TWO))
    assert problem() == (
        f"the publication of {version} was interrupted; the next push there finishes it"
    )
    lock = PushLock(server.target().layout, Requester("alice@here"))
    lock.acquire()
    assert problem() == f"{version} is being published; its check is not over"
    lock.release()
    server.target().inspect(lock=False)
    assert problem() == ""


def test_note_of_another_release_is_read(server: Server) -> None:
    """It may lack what has a default, and say more."""
    server.push(ONE)
    die_in(lambda die: server.push(TWO, on_step=kill_at("switched", die)))
    path = server.target().layout.file(INTENT)
    note = read_checked(path)
    for name in ("holds", "holds_there", "laid_in_from", "recovered_seconds"):
        del note["event"][name]
    note["event"]["from_the_future"] = 1
    write_checked(path, note)
    assert server.target().inspect(lock=False).recovered == "an interrupted switch was completed"
    assert [event["number"] for event in records(server).history.events()] == [1, 2]


def test_a_question_that_finishes_a_switch_still_knows_its_own_command(server: Server) -> None:
    """Two names for one place: the other one is told, whoever recovers in between."""
    server.push(ONE)
    die_in(lambda die: server.push(TWO, on_step=kill_at("switched", die)))
    server.requester = Requester("alice@here", "this command", "server2")
    first = server.target()
    first.lock.acquire()
    first.lock.release()
    server.requester = Requester("alice@here", "this command", "again")
    again = server.target()
    assert again.inspect(lock=False).recovered
    assert again.inspect(lock=True).same_place_as == "server2"
    again.lock.release()


def test_a_recovery_is_no_more_given_up_than_a_switch(server: Server) -> None:
    server.push(ONE)
    die_in(lambda die: server.push(TWO, on_step=kill_at("switched", die)))
    steps: list[str] = []
    target = server.target()
    target.on_step = steps.append
    assert target.inspect(lock=False).recovered
    assert (steps[0], steps[-1]) == ("switch", "recovered")


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_overwriting_a_change(step: str, server: Server) -> None:
    """What was changed by hand is a generation afterwards, or still stands there."""
    server.push(ONE)
    shift(server)
    changed = server.revision()
    die_in(lambda die: server.push(TWO, on_step=kill_at(step, die)))
    server.push(THREE)
    assert changed in [record.revision for record in records(server).all()]
    require_sound(server)


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_rollback(step: str, server: Server) -> None:
    server.push(ONE)
    server.push(TWO)

    die_in(lambda die: server.rollback(on_step=kill_at(step, die)))
    assert server.revision() in {revision(ONE), revision(TWO)}
    server.target().inspect(lock=False)
    require_sound(server)
    server.push(THREE)
    require_sound(server)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "check",
    [
        pytest.param("true", id="published"),
        pytest.param("false", id="taken back"),
        pytest.param("echo > $CONDA_PREFIX/lib/mine; false", id="changed and taken back"),
    ],
)
def test_killed_between_the_steps(check: str, tmp_path: Path) -> None:
    """... before each change of a name on the disk, until a push has none left to die at."""
    number, has_died = 0, True
    while has_died:
        server = Server(tmp_path / str(number))
        server.push(ONE)

        def push(die: Callable[[], None], server: Server = server, number: int = number) -> None:
            def on_step(step: str) -> None:
                if step == "intent":
                    die_at_change(number, die)

            with nullcontext() if check == "true" else pytest.raises(CheckFailed):
                server.push(TWO, check=check, on_step=on_step)

        has_died = die_in(push, may_live=True)
        live = {path: node for path, node in server.tree().items() if path != b"lib/mine"}
        assert revision(live) in {revision(ONE), revision(TWO)}
        target = server.target()
        with suppress(CheckFailed):  # as whoever takes an interrupted one back is told
            target.inspect(lock=True)
        target.lock.release()
        require_live_on_record(server)
        if check != "true":
            assert revision(TWO) not in [record.revision for record in records(server).all()]
        server.push(THREE)
        assert server.revision() == revision(THREE)
        require_sound(server)
        number += has_died
    assert number > 12


def test_changed_version_is_kept_where_its_recovery_is_killed(
    server: Server, tmp_path: Path
) -> None:
    """It was live for days, then the recovery took it back, and died before it looked at it."""
    broken = tmp_path / "broken"

    def push(die: Callable[[], None]) -> None:
        server.push(TWO, check=f"test ! -e {broken}", on_step=kill_at("switched", die))

    def recover(die: Callable[[], None]) -> None:
        with mock.patch.object(after_switch, "keep_if_changed", side_effect=lambda *_, **__: die()):
            server.target().inspect(lock=False)

    server.push(ONE)
    die_in(push)
    disk.write(server.live + b"/lib/mine", b"days of work")
    broken.touch()
    die_in(recover)
    for version in (THREE, ONE, THREE):
        server.push(version)
    assert any(os.path.exists(tree + b"/lib/mine") for tree in server.earlier())


def test_version_changed_during_a_switch_and_live_again_is_of_no_source(
    server: Server, tmp_path: Path
) -> None:
    """The push was killed right after the switch, and its check fails when that is recovered."""
    broken = tmp_path / "broken"

    def push(die: Callable[[], None]) -> None:
        def on_step(step: str) -> None:
            if step == "switch":
                disk.write(server.live + b"/lib/mine", b"a day of work")
            if step == "switched":
                die()

        server.push(TWO, check=f"test ! -e {broken}", on_step=on_step)

    server.environment_id = "a" * 24
    server.push(ONE)
    die_in(push)
    broken.touch()
    with pytest.raises(CheckFailed):
        server.push(TWO)
    state = server.target().inspect(lock=False)
    assert os.path.exists(server.live + b"/lib/mine")
    assert state.record is not None
    assert (state.record.method, state.record.environment_id) == (KEPT, "")
    assert state.record.source_revision not in (revision(ONE), revision(TWO))


def test_killed_in_the_transfer(server: Server) -> None:
    """What had arrived does not have to come again."""
    server.push(ONE)
    die_in(lambda die: server.push(TWO, before_publish=die))
    assert server.revision() == revision(ONE)
    with server.staged(TWO) as push:
        assert push.staging.origin == "resumed"
        assert push.complete().revision == revision(TWO), "with nothing transferred"
