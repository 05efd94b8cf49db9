"""A source that changes behind the scan's back: published as it was, as it is, or not at all."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync, Ran, finish
from tests.integration.push.places import environment, state
from tests.integration.push.planted import Stop, plant
from tests.integration.push.sly_changes import (
    SLY_CHANGES,
    Change,
    MemoryWriter,
    behind_a_link,
    directory_swapped,
    exchange,
    link_retargeted,
    other_version,
    rewritten_in_place,
    swapped_one_by_one,
)
from tests.integration.push.stamped import Reader, Stamped, version_at, wait_quiet, write_version
from tests.lab.host import CHECKOUT
from tests.lab.lab import Lab, LabHost

TARGET, OTHER_TARGET = "server2", "server3"
DONE, SOURCE_REFUSED, TRANSFER_FAILED = 0, 9, 17


@dataclass(frozen=True, slots=True)
class Scene:
    """A planted command, its source, and a target that somebody reads all the time."""

    command: Envsync
    source: Stamped
    target: LabHost


@pytest.fixture
def scene(source: Stamped, fresh_lab: Lab) -> Iterator[Scene]:
    target, command = fresh_lab[TARGET], plant(fresh_lab.controller)
    command.push(TARGET)
    source.change()
    with Reader(target):
        yield Scene(command, source, target)


def push_and_change(
    scene: Scene, moment: str, change: Change, version: int, transport: str = "auto"
) -> Ran:
    """Push, and make the other version while the target's agent is at that moment."""
    stop = Stop(scene.target, moment)
    process = scene.command.start("push", "myenv", scene.target.name, "--transport", transport)
    stop.wait()
    try:
        change(environment(scene.command.host), version)
    finally:
        stop.go_on()
    return finish(process)


def assert_whole(scene: Scene, ran: Ran, before: int, old: int, new: int) -> None:
    """One of the versions that the source was, if the push succeeded; else nothing new."""
    assert ran.exit_code in (DONE, SOURCE_REFUSED, TRANSFER_FAILED), ran.document
    stands = version_at(scene.target)
    assert stands in ((old, new) if ran.exit_code == DONE else (before,)), ran.document
    if ran.exit_code != DONE:
        assert ran.error["hint"]
    wait_quiet(scene.target)


def follow(scene: Scene, version: int) -> None:
    """The source is at rest again: the next push brings it."""
    again = scene.command.push(scene.target.name).server
    assert again["outcome"] in ("pushed", "in-step")
    assert version_at(scene.target) == version


@pytest.mark.timeout(120)
def test_source_that_changes_at_equal_sizes_and_times_is_noticed(scene: Scene) -> None:
    """Change after change, before anything is sent and in the middle of it."""
    top, old = environment(scene.command.host), scene.source.version
    for change, moment in zip(SLY_CHANGES, itertools.cycle(["receiving", "build.stage"])):
        before, new = version_at(scene.target), old + 1
        assert before is not None
        ran = push_and_change(scene, moment, change, new)
        assert_whole(scene, ran, before, old, new)
        if (top / "stamps").is_symlink():
            (top / "stamps").unlink()
            (top.parent / f"other-{new}/stamps").rename(top / "stamps")
        old = new
        if version_at(scene.target) == old:
            # Something to send for the next one.
            old += 1
            write_version(top, old)
    follow(scene, old)


def test_source_that_changes_during_a_first_push_is_published_whole(
    scene: Scene, fresh_lab: Lab
) -> None:
    """Nothing of the source is known before, and nothing is there."""
    controller, target = fresh_lab.controller, fresh_lab[OTHER_TARGET]
    cold = Scene(scene.command, scene.source, target)
    old = scene.source.version
    for change in (rewritten_in_place, swapped_one_by_one, directory_swapped):
        shutil.rmtree(controller.path(f"{controller.home()}/.cache/envsync"))
        new = old + 1
        ran = push_and_change(cold, "receiving", change, new)
        assert ran.exit_code in (DONE, SOURCE_REFUSED, TRANSFER_FAILED), ran.document
        assert version_at(target) in ((old, new) if ran.exit_code == DONE else (None,))
        wait_quiet(target)
        shutil.rmtree(environment(target), ignore_errors=True)
        shutil.rmtree(state(target))
        old = new
    follow(cold, old)


@pytest.mark.parametrize("transport", ["stream", "rsync", "scp"])
def test_source_that_vanishes_before_it_is_read_is_reported(scene: Scene, transport: str) -> None:
    """An environment that is created again is removed first."""

    def remove(top: Path, _: int) -> None:
        top.rename(top.with_name("removed"))

    ran = push_and_change(scene, "build.stage", remove, scene.source.version, transport)
    assert ran.exit_code == SOURCE_REFUSED, ran.document
    assert ran.error["server"] == scene.command.host.name
    assert version_at(scene.target) == scene.source.version - 1


def test_a_link_leads_elsewhere(scene: Scene) -> None:
    top, old = environment(scene.command.host), scene.source.version
    behind_a_link(top, [old, old + 1])
    before = version_at(scene.target)
    assert before is not None
    ran = push_and_change(scene, "receiving", link_retargeted, old + 1)
    assert_whole(scene, ran, before, old, old + 1)
    follow(scene, old + 1)


@pytest.mark.parametrize(
    ("changes", "changes_back", "is_sent_twice"),
    [
        ("target.inspect", "build.complete", True),
        ("build.stage", "build.complete", True),
        ("receiving", "build.publish", False),
    ],
)
def test_source_that_is_another_for_a_moment_is_published_as_it_was(
    scene: Scene, changes: str, changes_back: str, is_sent_twice: bool
) -> None:
    """Just while it is sent: what came of the other one is sent again."""
    top = environment(scene.command.host)
    beside = other_version(top, scene.source.version + 1)
    before = Stop(scene.target, changes)
    process = scene.command.start("push", "myenv", TARGET)
    before.wait()
    exchange(top / "stamps", beside)
    after = Stop(scene.target, changes_back)
    before.go_on()
    after.wait()
    exchange(top / "stamps", beside)
    after.go_on()
    ran = finish(process)
    assert ran.exit_code == DONE, ran.document
    assert version_at(scene.target) == scene.source.version
    assert (ran.server["wire_bytes"] > 1.5 * scene.source.size_bytes) == is_sent_twice


MAPPING = """
import sys
from pathlib import Path
from tests.integration.push.sly_changes import MemoryWriter
writer = MemoryWriter(Path(sys.argv[1]))
print("mapped", flush=True)
sys.stdin.readline()
"""


def test_a_process_that_writes_through_memory_is_waited_for(scene: Scene) -> None:
    """Such writes leave no trace in a file's times."""
    controller = scene.command.host
    top = f"{controller.prefix}/envs/myenv"
    argv = [sys.executable, "-c", MAPPING, top]
    environ = {"PYTHONPATH": str(CHECKOUT)}
    with controller.popen(argv, env=environ, stdin=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"mapped\n"
        refused = scene.command.push(TARGET, expect=SOURCE_REFUSED)
        assert "has stamps/000 mapped for writing" in refused.error["message"]
        assert "`local:`" in refused.error["hint"]
        writer.communicate(b"\n", timeout=20)
    follow(scene, scene.source.version)


def test_a_change_that_left_no_trace_is_found_at_last(scene: Scene) -> None:
    """By a process that envsync cannot see: what was hashed before is then believed no more."""
    top, new = environment(scene.command.host), scene.source.version + 1
    other = other_version(top, new)
    writer = MemoryWriter(top)
    follow(scene, new - 1)
    writer.write(other)
    writer.close()
    refused = scene.command.run("push", "myenv", OTHER_TARGET)
    assert refused.exit_code == TRANSFER_FAILED, refused.document
    assert "the source changed" in refused.error["message"]
    scene.command.push(TARGET, OTHER_TARGET)
    assert version_at(scene.target) == new
