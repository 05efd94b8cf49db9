"""A source on another server that lies: what comes from there is believed no more than a target.

Whatever it says, a pull ends as a version that is whole, or by name; nothing is written outside
the environment's place, and what a person is told of it is printable and short.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.errors import EnvsyncError
from envsync.push.steps.report import PUSHED, PushReport
from tests.integration.push.lying import FILES, Answer, LyingAgent, Scene, answer
from tests.integration.push.test_push_lying_agent import (
    DROPPED,
    ODD,
    another_value,
    require_calm,
    scene,
)

__all__ = ["scene"]

OPERATIONS = (
    "source.open",
    "source.inspect",
    "source.manifest",
    "source.send",
    "source.confirm",
    "source.remember_revision",
)


def pull(scene: Scene, agent: LyingAgent) -> tuple[PushReport | EnvsyncError, Path]:
    """How a pull from that agent ends, and where to: nothing else than these two."""
    prefix = scene.target()
    try:
        return scene.pull(agent.serve, prefix), prefix
    except EnvsyncError as error:
        error.server = error.server or "server2"  # as the fan-out does
        return error, prefix


def require_contained(prefix: Path) -> None:
    """What stands there is in the environment's place or envsync's own; or nothing does."""
    found = {path.relative_to(prefix).as_posix() for path in prefix.iterdir()}
    assert found == {"envs", "conda-meta"}
    assert {path.name for path in (prefix / "envs").iterdir()} <= {"myenv", ".envsync"}
    assert not list((prefix / "conda-meta").iterdir())


def require_whole(prefix: Path) -> None:
    for name, text in FILES.items():
        assert (prefix / "envs/myenv" / name).read_text() == text


def honest(_: str, __: int, ___: Answer) -> None:
    return None


def test_the_truth_is_pulled(scene: Scene) -> None:
    agent = LyingAgent(honest)
    ended, prefix = pull(scene, agent)
    assert isinstance(ended, PushReport), ended
    assert ended.outcome == PUSHED
    assert set(OPERATIONS) <= set(agent.asked)
    require_whole(prefix)


@settings(max_examples=15)
@given(st.sampled_from(OPERATIONS), st.integers(0, 1000), st.sampled_from([*ODD, DROPPED]))
def test_any_field_may_be_anything(scene: Scene, operation: str, which: int, value: Any) -> None:
    """One value of one answer is another one."""

    ended, prefix = pull(scene, LyingAgent(another_value(operation, which, value)))
    with contextlib.suppress(AttributeError):
        ended.server = "server2"  # type: ignore[misc]
    require_calm(ended)
    require_contained(prefix)


@settings(max_examples=15)
@given(st.binary(max_size=40), st.integers(0, 400))
def test_any_manifest_is_the_truth_or_refused(scene: Scene, spoilt: bytes, where: int) -> None:
    def lie(asked: str, number: int, truth: Answer) -> bytes | None:
        if asked != "source.manifest":
            return None
        at = where % (len(truth.payload) + 1)
        payload = truth.payload[:at] + spoilt + truth.payload[at + len(spoilt) :]
        return answer(number, truth.document, payload)

    ended, prefix = pull(scene, LyingAgent(lie))
    require_contained(prefix)
    if isinstance(ended, PushReport):
        require_whole(prefix)
    else:
        assert not (prefix / "envs/myenv").exists()


SPOILERS = {
    "another byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut short": lambda data: data[: len(data) // 2],
    "nothing": lambda _: b"",
    "twice": lambda data: data + data,
    "no block": lambda _: b"\xff" * 40,
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_contents_that_are_not_their_hash(kind: str, scene: Scene) -> None:
    ended, prefix = pull(scene, LyingAgent(honest, SPOILERS[kind]))
    assert isinstance(ended, EnvsyncError), ended
    require_contained(prefix)
    assert not (prefix / "envs/myenv").exists()
