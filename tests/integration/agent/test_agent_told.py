"""What `list` and `doctor` say of environments that are not as they should be."""

from __future__ import annotations

import os
import time

import pytest

from envsync.agent.target import health, switches
from envsync.agent.target.catalogue import environments
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.wire.server_operations import EnvironmentFacts, StandingFacts
from envsync.errors import CheckFailed, NotFound
from tests.integration.agent.versions import ONE, TWO
from tests.support.pushes import NAME, Server, records


def listed(server: Server) -> list[EnvironmentFacts]:
    return list(environments(str(server.prefix), ("local",), {}, server.cache))


def standing(server: Server) -> list[StandingFacts]:
    environment = server.target().environment
    return list(health._standing(str(server.prefix), lambda _: environment))


def test_environment_on_record_is_listed_without_conda_history(server: Server) -> None:
    server.push(ONE)
    assert [found.problem for found in listed(server)] == [""]
    os.unlink(server.live + b"/conda-meta/history")
    (found,) = listed(server)
    assert (found.name, found.drifted) == (NAME, True)
    assert "no conda-meta/history" in found.problem
    server.prefix.joinpath("envs/none").mkdir()
    assert len(listed(server)) == 1


def test_environment_removed_behind_a_link_is_reported_as_removed(server: Server) -> None:
    elsewhere = server.prefix.parent / "elsewhere"
    (elsewhere / "real").mkdir(parents=True)
    os.symlink(elsewhere / "real", server.live)
    for version in (ONE, TWO):
        server.push(version)
    target = server.target()
    switches.remove(target, "bob@here", overwrite=True)
    target.lock.release()
    (found,) = standing(server)
    assert (found.name, found.state) == (NAME, "removed")


def test_what_was_removed_on_purpose_is_told_while_versions_are_kept(server: Server) -> None:
    """Once they are gone, nobody misses it."""
    server.push(ONE)
    target = server.target()
    switches.remove(target, "bob@here", overwrite=False)
    target.lock.release()
    assert standing(server) == [StandingFacts(NAME, "removed", "1 earlier version is kept")]
    sweep(server.target(), Rules(0, False, False, time.time()))
    assert standing(server) == []


def test_version_that_no_rollback_would_put_back_is_not_mentioned(server: Server) -> None:
    """What the check of the first push refused is held, but `rollback` asks for its number."""
    with pytest.raises(CheckFailed):
        server.push(ONE, check="touch $CONDA_PREFIX/conda-meta/six-9-0.json; false")
    assert len(records(server).earlier()) == 1
    with pytest.raises(NotFound):
        server.rollback()
    (found,) = standing(server)
    assert (found.state, "kept" in found.reason) == ("held", False)


def test_doctor_finds_what_refuses_a_push(server: Server) -> None:
    server.push(ONE)
    left = server.live + b"/lib/python3.11/site-packages/~foo"
    os.makedirs(left)
    (found,) = standing(server)
    assert found.state == "busy"
    assert "~foo" in found.reason
    os.rename(server.live, server.live + b"-away")
    server.prefix.joinpath("envs", NAME).write_text("a file")
    (found,) = (one for one in standing(server) if one.name == NAME)
    assert (found.state, found.reason.endswith("is not a directory")) == ("blocked", True)


def test_a_version_without_its_history_is_changed_as_a_push_finds_it(server: Server) -> None:
    server.push(ONE)
    os.unlink(server.live + b"/conda-meta/history")
    (found,) = standing(server)
    assert found.state == "changed"
