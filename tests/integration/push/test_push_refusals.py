"""A push that is refused leaves the target as it is, with the version that one can go back to."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envsync.agent.server.filesystem import Space
from envsync.agent.staging import build_plan
from envsync.errors import NoSpace, TransferFailed
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import PUSHED, PushReport
from tests.support import disk
from tests.support.pushes import NAME, environment
from tests.support.trees import file


@dataclass(frozen=True, slots=True)
class Scene:
    """A source and a target, both of this machine."""

    here: Path
    there: Path
    settings: PushSettings

    def push(self, transport: str = "auto") -> PushReport:
        settings = replace(self.settings, transport=transport)
        source = Place("here", str(self.here))
        there = Destination("there", str(self.there), None)
        [report] = FanOut(settings, source, [there]).run()
        return report

    def change(self, number: int) -> None:
        path = self.here / "envs" / NAME / "of"
        path.unlink()
        disk.write(os.fsencode(path), b"%d" % number)

    def state(self) -> set[str]:
        """What envsync keeps on the target, apart from locks."""
        top = self.there / "envs/.envsync" / NAME
        paths = {str(path.relative_to(top)) for path in top.rglob("*")}
        return paths - {"lock", "wanted", "writers"}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Two versions were pushed, and the source has a third."""
    for name in ("cache", "state"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    for prefix in ("here", "there"):
        for name in ("envs", "conda-meta"):
            (tmp_path / prefix / name).mkdir(parents=True)
    top = tmp_path / "here/envs" / NAME
    top.mkdir()
    disk.build(os.fsencode(top), environment({b"of": file(b"0")}))
    settings = PushSettings(NAME, "here", "alice@here")
    scene = Scene(tmp_path / "here", tmp_path / "there", settings)
    for number in (1, 2):
        scene.change(number)
        assert scene.push().outcome == PUSHED
    scene.change(3)
    return scene


@pytest.mark.parametrize("transport", ["rsync", "scp"])
def test_transport_that_cannot_be_used_is_refused_before_anything_is_staged(
    scene: Scene, transport: str
) -> None:
    before = scene.state()
    refused = scene.push(transport)
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
