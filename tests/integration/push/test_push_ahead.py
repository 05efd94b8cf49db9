"""A first push sends files while the source is still being hashed; nothing else is different."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.push import readers
from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import environment, state, trees
from tests.integration.push.planted import HASHING_WAITS, Stop, plant
from tests.integration.push.stamped import Stamped, version_at, wait_quiet
from tests.integration.push.tree_listing import assert_same, tree
from tests.lab.lab import Lab

SERVER = "server2"


@pytest.fixture
def ahead(source: Stamped, fresh_lab: Lab) -> Iterator[Envsync]:
    """A command whose hashing waits until the test says so."""
    del source
    envsync = plant(fresh_lab.controller)
    gate = fresh_lab.controller.path(HASHING_WAITS)
    gate.touch()
    yield envsync
    gate.unlink(missing_ok=True)


def test_files_arrive_before_their_hashes_are_known(ahead: Envsync, fresh_lab: Lab) -> None:
    controller, target = fresh_lab.controller, fresh_lab[SERVER]
    arrived = Stop(target, "receiving")
    process = ahead.start("push", "myenv", SERVER)
    arrived.wait()
    assert not environment(target).exists()
    controller.path(HASHING_WAITS).unlink()
    arrived.go_on()
    ran = finish(process)
    assert ran.exit_code == 0, ran.document
    assert ran.server["outcome"] == "pushed"
    assert "while the source was hashed" in ran.server["transport_reason"]
    assert ran.server["plan"]["fetch_files"] > 200
    assert_same(tree(environment(controller)), tree(environment(target)))
    assert ahead.push(SERVER).server["outcome"] == "in-step"


@pytest.mark.parametrize("victim", ["agent", "command"])
def test_whoever_is_killed_the_next_push_resumes(
    ahead: Envsync, fresh_lab: Lab, victim: str
) -> None:
    controller, target = fresh_lab.controller, fresh_lab[SERVER]
    stop = Stop(target, "receiving")
    process = ahead.start("push", "myenv", SERVER)
    stop.wait()
    if victim == "agent":
        stop.kill()
        controller.path(HASHING_WAITS).unlink()
        assert finish(process).exit_code == 6
    else:
        process.kill()
        process.communicate()
        controller.path(HASHING_WAITS).unlink()
        stop.go_on()
    wait_quiet(target)
    assert not environment(target).exists()
    plan = ahead.push(SERVER).server["plan"]
    assert plan["origin"] == "resumed"
    assert plan["fetch_files"] < len(readers.NAMES)
    # All that a killed command had sent may have been there already.
    assert plan["fetch_files"] > 0 or victim == "command"
    assert_same(tree(environment(controller)), tree(environment(target)))
    assert len(trees(target)) == 0
    assert not (state(target) / "intent.json").exists()


def test_file_that_changes_while_it_is_sent_is_sent_again(
    ahead: Envsync, source: Stamped, fresh_lab: Lab
) -> None:
    """The files that went ahead are of one version, the hashes of the next: no mixture."""
    controller, target = fresh_lab.controller, fresh_lab[SERVER]
    stop = Stop(target, "receiving")
    process = ahead.start("push", "myenv", SERVER)
    stop.wait()
    source.change()
    controller.path(HASHING_WAITS).unlink()
    stop.go_on()
    ran = finish(process)
    if ran.exit_code == 0:
        assert version_at(target) == source.version
    else:
        assert not environment(target).exists()
        ahead.push(SERVER)
    assert_same(tree(environment(controller)), tree(environment(target)))
