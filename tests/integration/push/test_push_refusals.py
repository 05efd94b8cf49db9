"""A push that is refused leaves the target as it is, with the version that one can go back to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.agent.server.filesystem import Space
from envsync.agent.staging import build_plan
from envsync.agent.trees import hashing
from envsync.errors import AgentFailed, NoSpace, TransferFailed
from envsync.push.ends.target_end import TargetEnd
from envsync.push.steps.report import PUSHED
from tests.integration.push.local_pair import LocalPair
from tests.support import disk
from tests.support.pushes import NAME
from tests.support.trees import file


class Scene(LocalPair):
    """Two versions were pushed, and the source has a third."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, {b"of": file(b"0")})
        for number in (1, 2):
            self.change(number)
            assert self.push().outcome == PUSHED
        self.change(3)

    def change(self, number: int) -> None:
        path = self.source / "of"
        path.unlink()
        disk.write(os.fsencode(path), b"%d" % number)

    def state(self) -> set[str]:
        """What envsync keeps on the target, apart from locks."""
        top = self.there / "envs/.envsync" / NAME
        paths = {str(path.relative_to(top)) for path in top.rglob("*")}
        return paths - {"lock", "wanted", "writers"}


@pytest.fixture
def scene(own_homes: None, tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("transport", ["rsync", "scp"])
def test_transport_that_cannot_be_used_is_refused_before_anything_is_staged(
    scene: Scene, transport: str
) -> None:
    before = scene.state()
    refused = scene.push(transport=transport)
    assert isinstance(refused.error, TransferFailed)
    assert "cannot be used: the target is this machine" in refused.error.message
    assert scene.state() == before
    assert scene.push().outcome == PUSHED


def test_push_without_room_is_refused_before_anything_is_staged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scene.state()
    with monkeypatch.context() as full:
        full.setattr(build_plan, "space", lambda _: Space(0, None))
        assert isinstance(scene.push().error, NoSpace)
    assert scene.state() == before
    assert scene.push().outcome == PUSHED


def test_process_that_reads_files_and_is_killed_leaves_the_staging_tree(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that would hash what has changed there since it was written."""
    complete = TargetEnd.complete

    def touch_all(end: TargetEnd) -> None:
        for path in (scene.there / "envs/.envsync" / NAME).rglob("of"):
            path.touch()
        with monkeypatch.context() as fatal:
            fatal.setattr(hashing, "processors", lambda: 2)
            fatal.setattr(hashing, "PARALLEL_FILES_MIN", 1)
            fatal.setattr(hashing, "_WORKER_CODE", "os.kill(os.getpid(), 9)")
            complete(end)

    with monkeypatch.context() as killed:
        killed.setattr(TargetEnd, "complete", touch_all)
        error = scene.push().error
    assert isinstance(error, AgentFailed)
    assert "a process that reads files ended unexpectedly (exit status -9)" in error.message
    assert error.exit_code == 7
    assert (scene.there / "envs" / NAME / "of").read_text() == "2"
    resumed = scene.push()
    assert resumed.outcome == PUSHED
    assert resumed.plan is not None
    assert resumed.plan.origin == "resumed"
    assert (scene.there / "envs" / NAME / "of").read_text() == "3"
