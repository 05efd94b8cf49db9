"""A source on another server that lies: what comes from there is believed no more than a target.

Whatever it says, a pull ends as a version that is whole, or by name; nothing is written outside
the environment's place, and what a person is told of it is printable and short.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.agent.wire import codec
from envsync.errors import EnvsyncError, TransferFailed, VerificationFailed
from envsync.push.ends.target_end import TargetEnd
from envsync.push.steps.report import PUSHED, PushReport
from tests.integration.push.lying import (
    DROPPED,
    FILES,
    ODD,
    Answer,
    LyingAgent,
    Scene,
    another_value,
    answer,
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


def require_whole_or_nothing(ended: PushReport | EnvsyncError, prefix: Path) -> None:
    if isinstance(ended, PushReport):
        require_whole(prefix)
    else:
        assert not (prefix / "envs/myenv").exists()


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
    require_calm(ended, "server1", "server2")
    require_contained(prefix)
    require_whole_or_nothing(ended, prefix)


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
    require_whole_or_nothing(ended, prefix)


SPOILERS = {
    "another size": lambda data: data[:5] + bytes([data[5] ^ 1]) + data[6:],
    "cut short": lambda data: data[: len(data) // 2],
    "nothing": lambda _: b"",
    "twice": lambda data: data + data,
    "no block": lambda _: b"\xff" * 40,
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_stream_that_is_none_is_refused(kind: str, scene: Scene) -> None:
    agent = LyingAgent(honest, SPOILERS[kind])
    ended, prefix = pull(scene, agent)
    assert isinstance(ended, TransferFailed), ended
    assert agent.asked.count("source.send") == 1
    require_calm(ended, "server1")
    require_contained(prefix)
    require_whole_or_nothing(ended, prefix)


def with_other_contents(times: int) -> Callable[[bytes], bytes]:
    """Another last byte in each of the first blocks: a stream that is one, of another file."""
    decoder, left = codec.Decoder(), [True] * times

    def spoil(block: bytes) -> bytes:
        content = b"".join(decoder.decode(block))
        if left:
            left.pop()
            content = content[:-1] + bytes([content[-1] ^ 1])
        return codec.encode(codec.NONE, 0, content)

    return spoil


def test_contents_that_are_not_their_hash_are_sent_once_more(scene: Scene) -> None:
    agent = LyingAgent(honest, with_other_contents(1))
    ended, prefix = pull(scene, agent)
    assert isinstance(ended, PushReport), ended
    assert agent.asked.count("source.send") == 2
    require_whole(prefix)


def test_contents_that_are_never_their_hash_are_refused(scene: Scene) -> None:
    """All files are in one block, of which the last one is wrong each time."""
    agent = LyingAgent(honest, with_other_contents(2))
    ended, prefix = pull(scene, agent)
    assert isinstance(ended, TransferFailed), ended
    assert ended.message == "the source changed during the push; nothing was published"
    assert ended.details == ("lib/a.py",)
    assert agent.asked.count("source.send") == 2
    require_contained(prefix)
    require_whole_or_nothing(ended, prefix)


@pytest.mark.parametrize("times", [1, 2])
def test_contents_that_became_wrong_at_the_target(
    times: int, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They arrived as they should, and somebody there changes them before they are hashed."""
    complete, left = TargetEnd.complete, [True] * times

    def spoilt(end: TargetEnd) -> None:
        if left:
            left.pop()
            [wrong] = prefix.glob("envs/.envsync/myenv/**/lib/a.py")
            wrong.write_text("a = 2\n")
        complete(end)

    monkeypatch.setattr(TargetEnd, "complete", spoilt)
    agent, prefix = LyingAgent(honest), scene.target()
    if times == 1:
        assert scene.pull(agent.serve, prefix).outcome == PUSHED
        require_whole(prefix)
    else:
        said = "1 path is not what the source sent"
        with pytest.raises(VerificationFailed, match=said) as found:
            scene.pull(agent.serve, prefix)
        assert found.value.exit_code == 18
        assert found.value.details == ("lib/a.py",)
        assert not (prefix / "envs/myenv").exists()
    assert agent.asked.count("source.send") == 2
