"""What the agent's process says of an error that nobody expected."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from envsync.agent.operations import service
from envsync.agent.operations.process import Process
from envsync.agent.operations.service import Answer, Request, Service
from envsync.agent.trees.scan import NO_HELPERS


@pytest.fixture
def process() -> Iterator[Process]:
    """One whose session nobody reads."""
    source, sink = os.pipe()
    yield Process(source, sink, NO_HELPERS)
    os.close(source)
    os.close(sink)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (["intent", "sync"], "the live environment is untouched"),
        (["sync", "switch"], "tells which version stands there"),
        (["switch", "switched", "check"], "tells which version stands there"),
    ],
)
def test_it_says_of_the_live_environment_what_is_so(
    steps: list[str], said: str, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(asked: Service, request: Request) -> Answer:
        for step in steps:
            asked.tell({"step": step})
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(service, "_handler", lambda _: break_down)
    answer = process._carry_out({"operation": "build.publish", "arguments": {}}, b"")
    assert said in answer.document["error"]["hint"]
