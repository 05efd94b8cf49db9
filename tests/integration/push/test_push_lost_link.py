"""A push whose links end with the switch: what stands there is told as what it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from envsync.agent.wire.build_operations import ADOPT, PUBLISH
from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.messages import TargetState
from envsync.agent.wire.operation import AnswerT, Operation, RequestT
from envsync.errors import ConnectionLost
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.local_source import source_of
from envsync.push.ends.target_end import TargetEnd, open_request
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import ADOPTED, PUSHED, PushReport
from tests.support import disk
from tests.support.one_push import one_push
from tests.support.pushes import NAME, environment
from tests.support.trees import file, symlink

TOLD = ("data (symlink) leads to /srv/nowhere, which is not there",)


class MortalEnd(LocalEnd):
    """Asked nothing any more once it `is_lost`, which `after_call` may decide by the operation."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.is_lost = False
        self.after_call: Callable[[object], None] = lambda _: None

    def ask(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        stream: Iterable[bytes] | None = None,
        on_progress: OnFigure | None = None,
    ) -> AnswerT:
        if self.is_lost:
            raise ConnectionLost("the connection was lost", server=self.server)
        answer = super().ask(operation, request, stream, on_progress)
        if isinstance(answer, TargetState):
            # Older than any that this machine has: the source is asked what it needs.
            answer = answer._replace(platform=answer.platform._replace(libc_version="2.1"))
        self.after_call(operation)
        return answer


class Scene:
    """An environment with a link that leads out of it, and a prefix that it is pushed to."""

    def __init__(self, directory: Path) -> None:
        self.there = directory / "there"
        self.here = here = directory / "here"
        (self.there / "envs").mkdir(parents=True)
        self.live = self.there / "envs" / NAME
        self.tree = environment({b"data": symlink(b"/srv/nowhere"), b"lib/m.py": file(b"12345")})
        (here / "envs" / NAME).mkdir(parents=True)
        disk.build(os.fsencode(here / "envs" / NAME), self.tree)
        self.settings = PushSettings(NAME, f"here:{here}", "test")
        self.source, self.target = MortalEnd("here"), MortalEnd("there")

    def push(self) -> PushReport:
        source = source_of(self.source, str(self.here), NAME, self.settings.local)
        target = self._opened(self.target)
        try:
            return one_push(self.settings, source, target, self._again)
        finally:
            self.source.close()
            self.target.close()

    @contextlib.contextmanager
    def _again(self) -> Iterator[TargetEnd]:
        self.target.close()  # an agent that is dead holds no lock
        with contextlib.closing(LocalEnd("there")) as end:
            yield self._opened(end)

    def _opened(self, end: LocalEnd) -> TargetEnd:
        return TargetEnd(end, open_request(self.settings, str(self.there)))


@pytest.fixture
def scene(own_homes: None, tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("who", "answer"),
    [
        ("target", "lost"),
        ("target", "given"),
        ("source", "given"),
        ("both", "lost"),
        ("both", "given"),
    ],
)
def test_push_succeeds_whatever_link_is_lost_with_the_switch(
    who: str, answer: str, scene: Scene
) -> None:
    def lose(operation: object) -> None:
        if operation is not PUBLISH:
            return
        scene.source.is_lost = who != "target"
        scene.target.is_lost = who != "source"
        if answer == "lost" and scene.target.is_lost:
            raise ConnectionLost("the connection was lost", server="there")

    scene.target.after_call = lose
    report = scene.push()
    assert report.outcome == PUSHED
    assert report.record is not None
    assert report.warnings[-1:] == TOLD
    assert (scene.live / "data").is_symlink()


def test_adoption_is_reported_though_the_source_is_lost(scene: Scene) -> None:
    scene.live.mkdir()
    disk.build(os.fsencode(scene.live), scene.tree)

    def lose(operation: object) -> None:
        scene.source.is_lost = operation is ADOPT

    scene.target.after_call = lose
    assert scene.push().outcome == ADOPTED
