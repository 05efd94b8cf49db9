"""Whoever is killed, at whatever moment: readers see one version, and the next push resumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.push import readers
from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import environment, state, trees
from tests.integration.push.planted import AFTER_THE_SWITCH, MOMENTS, Stop, plant
from tests.integration.push.stamped import MOVED_FILES, Reader, Stamped, version_at, wait_quiet
from tests.lab.lab import Lab, LabHost

SERVER = "server2"
STEPS = [moment for moment in MOMENTS if moment not in ("transfer.receive", "build.publish")]
AFTER_STAGING = STEPS[STEPS.index("build.stage") + 1 :]


@dataclass(frozen=True, slots=True)
class Scene:
    """A planted command, its source, and a target that somebody reads all the time."""

    command: Envsync
    source: Stamped
    target: LabHost


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    lab.reset()
    target = lab[SERVER]
    source = Stamped.in_lab(lab)
    # What leads out is asked about at the target: not once the agent there is dead.
    (source.top / "data").symlink_to("/srv/shared/data")
    command = plant(lab.controller)
    command.push(SERVER)
    with Reader(target):
        yield Scene(command, source, target)


def assert_resumes(scene: Scene, moment: str = "") -> None:
    """The next push brings the newest version, and leaves nothing of the fault behind.

    It begins where one that was killed at this moment had come to.
    """
    wait_quiet(scene.target)
    after = scene.command.push(SERVER).server
    if after["outcome"] == "pushed" and moment in AFTER_STAGING:
        plan = after["plan"]
        assert plan["origin"] == "resumed"
        if moment == "copying":
            assert plan["copy_files"] < MOVED_FILES
        elif moment == "receiving":
            assert 0 < plan["fetch_files"] < len(readers.NAMES)
        else:
            assert plan["fetch_files"] == 0
    assert after["outcome"] in ("pushed", "in-step")
    assert version_at(scene.target) == scene.source.version
    assert not (state(scene.target) / "intent.json").exists()
    assert len(trees(scene.target)) <= 1


@pytest.mark.parametrize("moment", STEPS)
def test_the_agent_is_killed(scene: Scene, moment: str) -> None:
    before = version_at(scene.target)
    new = scene.source.change()
    stop = Stop(scene.target, moment)
    process = scene.command.start("push", "myenv", SERVER)
    stop.kill()
    ran = finish(process)
    if moment in AFTER_THE_SWITCH:
        # The command came back and read the record: the new version is what stands there.
        assert ran.exit_code == 0, ran.document
        assert ran.server["outcome"] == "pushed"
        assert version_at(scene.target) == new
    else:
        assert ran.exit_code == 6, ran.document
        assert ran.error["server"] == SERVER
        assert version_at(scene.target) == before
    assert_resumes(scene, moment)


@pytest.mark.parametrize("moment", STEPS)
def test_the_command_is_killed(scene: Scene, moment: str) -> None:
    before = version_at(scene.target)
    new = scene.source.change()
    stop = Stop(scene.target, moment)
    process = scene.command.start("push", "myenv", SERVER)
    stop.wait()
    process.kill()
    process.communicate()
    assert version_at(scene.target) == (new if moment in AFTER_THE_SWITCH else before)
    stop.go_on()
    wait_quiet(scene.target)
    decided = moment in ("switch", *AFTER_THE_SWITCH)
    if moment in ("intent", "sync"):
        # It may hear of the end before it switches, or just after.
        assert version_at(scene.target) in (before, new)
    else:
        assert version_at(scene.target) == (new if decided else before)
        assert not (state(scene.target) / "intent.json").exists()
    assert_resumes(scene, moment)


def test_version_published_after_its_command_died_is_the_sources_own(
    scene: Scene,
) -> None:
    """The command died, the agent switched: what the source has next goes over it."""
    scene.source.change()
    stop = Stop(scene.target, "switch")
    process = scene.command.start("push", "myenv", SERVER)
    stop.wait()
    process.kill()
    process.communicate()
    stop.go_on()
    wait_quiet(scene.target)
    scene.source.change()
    assert_resumes(scene)


@pytest.mark.parametrize(
    "moment", ["build.rollback", "intent", "switch", "switched", "record", "recorded"]
)
def test_the_agent_is_killed_while_it_rolls_back(scene: Scene, moment: str) -> None:
    """What became of it is told as it is: to do it again would go back once more."""
    before = scene.source.change()
    scene.command.push(SERVER)
    new = scene.source.change()
    scene.command.push(SERVER)
    stop = Stop(scene.target, moment)
    process = scene.command.start("rollback", "myenv", SERVER)
    stop.kill()
    ran = finish(process)
    if moment in AFTER_THE_SWITCH:
        assert ran.exit_code == 0, ran.document
        assert version_at(scene.target) == before
        held = scene.command.run("push", "myenv", SERVER)
        assert held.exit_code == 13, held.document
    else:
        assert ran.exit_code == 6, ran.document
        assert "nothing was rolled back" in ran.error["message"]
        assert version_at(scene.target) == new
    scene.source.change()
    assert_resumes(scene)


def test_drift_that_a_killed_push_did_not_replace_is_not_told_as_pushed(scene: Scene) -> None:
    """What stands there was published as the same revision, and was changed by hand since."""
    scene.source.change()
    scene.command.push(SERVER)
    mine = environment(scene.target) / "mine"
    mine.write_text("by hand\n")
    stop = Stop(scene.target, "intent")
    process = scene.command.start("push", "myenv", SERVER, "--overwrite")
    stop.kill()
    ran = finish(process)
    assert ran.exit_code == 6, ran.document
    assert mine.exists()
    scene.command.push(SERVER, "--overwrite")
    assert not mine.exists()
