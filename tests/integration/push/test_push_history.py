"""What a source had and could not note is said, and is noted by the next push of the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.agent.server import machine
from envsync.errors import NotFastForward
from envsync.push.steps.report import IN_STEP, PUSHED
from tests.integration.push.local_pair import LocalPair
from tests.support.trees import file


class Scene(LocalPair):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory, {b"lib/m.py": file(b"1")})
        self.log = directory / "state/envsync/had"
        self.log.parent.mkdir(parents=True)
        self.log.touch()  # like a full disk: no log can be written

    def change(self) -> None:
        (self.source / "lib/m.py").write_text("a = 2")


@pytest.fixture
def scene(own_homes: None, tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_published_revision_is_noted_by_a_later_push(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "name_among_all", lambda: "")
    pushed = scene.push()
    assert pushed.outcome == PUSHED
    [warning] = [told for told in pushed.warnings if "could not note" in told]
    assert f"here could not note that it published this version ({scene.log}: " in warning
    scene.log.unlink()
    again = scene.push()
    assert again.outcome == IN_STEP
    assert not [told for told in again.warnings if "could not note" in told]
    scene.change()
    assert scene.push().outcome == PUSHED


def test_version_that_was_not_noted_but_recorded_from_here_is_replaced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another user pushed it, who has a log of his own."""
    monkeypatch.setattr(machine, "name_among_all", lambda: "server1")
    for outcome in (PUSHED, IN_STEP):
        report = scene.push()
        assert report.outcome == outcome
        assert not any("could not note" in told for told in report.warnings)
    scene.change()
    assert scene.push().outcome == PUSHED


@pytest.mark.parametrize("names", [("", ""), ("server1", "server2")])
def test_version_that_was_not_noted_is_not_replaced(
    scene: Scene, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "name_among_all", lambda: names[0])
    scene.push()
    monkeypatch.setattr(machine, "name_among_all", lambda: names[1])
    scene.change()
    refused = scene.push().error
    assert isinstance(refused, NotFastForward)
    assert "which this source is not known to have had" in refused.message
