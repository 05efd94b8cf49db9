"""What a push asks of its source while its target is at work, and how that ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.trees.hashing import Hashing
from envsync.errors import TransferFailed
from envsync.push.cycle import SOURCE_ATTEMPTS
from envsync.push.ends.local_source import LocalSource
from envsync.push.ends.source_look import SourceLook
from envsync.push.ends.target_end import TargetEnd
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import PushReport
from envsync.push.steps.send_ahead import SendAhead
from envsync.push.steps.sending import SENT_AHEAD
from envsync.tree import manifest as manifests
from tests.support import disk
from tests.support.pushes import NAME, environment
from tests.support.trees import file, manifest_of

NODES = environment({b"lib/%d/%d" % (n % 9, n): file(b"%d" % n) for n in range(90)})
WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A source and a target that has nothing, both of this machine."""

    fan_out: FanOut
    target: Path

    def push(self) -> PushReport:
        [report] = self.fan_out.run()
        return report


@pytest.fixture
def scene(own_homes: None, tmp_path: Path) -> Scene:
    for prefix in ("here", "there"):
        for name in ("envs", "conda-meta"):
            (tmp_path / prefix / name).mkdir(parents=True)
    top = tmp_path / "here/envs" / NAME
    top.mkdir()
    disk.build(os.fsencode(top), NODES)
    settings = PushSettings(NAME, "here", "alice@here")
    source = Place("here", str(tmp_path / "here"))
    there = Destination("there", str(tmp_path / "there"), None)
    return Scene(FanOut(settings, source, [there]), tmp_path / "there")


def before(
    monkeypatch: pytest.MonkeyPatch, kind: type, name: str, first: Callable[[], object]
) -> None:
    """Have something done whenever a method is called, before it is carried out."""
    plain = getattr(kind, name)

    @wraps(plain)
    def called(*arguments: Any, **more: Any) -> Any:
        first()
        return plain(*arguments, **more)

    monkeypatch.setattr(kind, name, called)


def must_come(event: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        assert event.wait(WAIT_SECONDS)

    return wait


def test_source_hashed_during_a_first_push_is_confirmed_and_referred_to(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the target looks at what came; what it has then is not told once more."""
    arrived, confirming = threading.Event(), threading.Event()
    manifest, sizes = LocalSource.manifest, list[int]()

    def told(source: LocalSource, known: bytes) -> bytes:
        found = manifest(source, known)
        sizes.append(len(found))
        return found

    # As on another machine, at the same path.
    monkeypatch.setattr(LocalSource, "at", lambda source, _: source)
    monkeypatch.setattr(LocalSource, "manifest", told)
    before(monkeypatch, Hashing, "files", must_come(arrived))
    before(monkeypatch, SendAhead, "finish_begun", arrived.set)
    before(monkeypatch, SourceEnvironment, "confirm", confirming.set)
    before(monkeypatch, TargetEnd, "finish_begun", must_come(confirming))
    report = scene.push()
    assert (report.outcome, report.transport_reason) == ("pushed", SENT_AHEAD)
    assert disk.read(os.fsencode(scene.target / "envs" / NAME)) == NODES
    assert len(sizes) == 1
    assert sizes[0] < len(manifests.encode(manifest_of(NODES))) / 10


@pytest.mark.parametrize(("changes", "is_pushed"), [(1, True), (99, False)])
def test_source_that_changes_is_sent_again_unless_it_keeps_changing(
    scene: Scene, changes: int, is_pushed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is added each time, just before the source would be found unchanged."""
    source = scene.target.parent / "here/envs" / NAME
    added: list[Path] = []

    def change() -> None:
        if len(added) < changes:
            added.append(source / f"lib/new{len(added)}")
            added[-1].touch()

    before(monkeypatch, SourceEnvironment, "confirm", change)
    report = scene.push()
    there = scene.target / "envs" / NAME
    if is_pushed:
        assert (report.outcome, report.error) == ("pushed", None)
        assert disk.read(os.fsencode(there)) == disk.read(os.fsencode(source))
        assert len(added) == changes
    else:
        assert isinstance(report.error, TransferFailed)
        assert report.error.message == "the source keeps changing; nothing was published"
        assert report.error.exit_code == 17
        assert len(added) == SOURCE_ATTEMPTS
        assert not there.exists()


@pytest.mark.parametrize("step", ["finish_begun", "stage"])
def test_a_push_that_fails_ends_no_helpers_of_who_still_looks(
    scene: Scene, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, over = threading.Event(), threading.Event()
    helpers = scene.fan_out._helpers
    is_closed: list[bool] = []
    close = helpers.close

    def closing() -> None:
        is_closed.append(True)
        over.set()
        close()

    def waited_for() -> None:
        if threading.current_thread().name.startswith("server"):
            over.set()

    def confirm_late(source: SourceEnvironment) -> bool:
        looking.set()
        assert over.wait(WAIT_SECONDS)
        assert not is_closed
        confirmed.set()
        return confirm(source)

    def fail(*_: object, **__: object) -> None:
        assert looking.wait(WAIT_SECONDS)
        raise TransferFailed("the link is gone")

    confirm, confirmed = SourceEnvironment.confirm, threading.Event()
    monkeypatch.setattr(helpers, "close", closing)
    monkeypatch.setattr(SourceEnvironment, "confirm", confirm_late)
    monkeypatch.setattr(SourceLook, "is_being_hashed", lambda _: step == "finish_begun")
    monkeypatch.setattr(TargetEnd, "begin_alike", lambda *_, **__: False)
    monkeypatch.setattr(SendAhead if step == "finish_begun" else TargetEnd, step, fail)
    before(monkeypatch, threading.Thread, "join", waited_for)
    report = scene.push()
    assert isinstance(report.error, TransferFailed)
    assert confirmed.is_set()
    assert is_closed == [True]
