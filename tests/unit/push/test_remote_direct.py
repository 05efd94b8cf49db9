"""How a source on another server tries to get into targets by itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import cast

import pytest

from envsync.agent.wire.source_operations import REACH, ReachFacts
from envsync.push.ends.remote_direct import RemoteDirect
from envsync.push.ends.source_look import SourceLook
from envsync.push.ends.source_server import SourceServer

IN_VAIN, GOT_IN = ReachFacts(-1, "Connection timed out"), ReachFacts(1, "")


class FakeSource:
    """Its agent is asked by all pushes, one after the other; a `sender` is one push's own."""

    server = "server2"

    def __init__(self, *tries: tuple[ReachFacts, float]) -> None:
        """Each try has an outcome, and the seconds that it takes."""
        self.silent_tries, self.has_reached = 0, False
        self.tries = list(tries)
        self.now_seconds = 0.0

    def ask(self, operation: object, *_: object) -> None:
        raise AssertionError(f"{operation} holds up every other push")

    @contextlib.contextmanager
    def sender(self) -> Iterator[FakeSender]:
        yield FakeSender(self)

    @contextlib.contextmanager
    def forwarding_sender(self) -> Iterator[None]:
        yield None

    def direct(self) -> RemoteDirect:
        return RemoteDirect(cast(SourceServer, self), cast(SourceLook, self))


class FakeSender:
    def __init__(self, source: FakeSource) -> None:
        self.source = source

    def ask(self, operation: object, commands: tuple[tuple[str, ...], ...]) -> ReachFacts:
        assert operation == REACH
        assert commands == (("ssh", "server3"),)
        facts, seconds = self.source.tries.pop(0)
        self.source.now_seconds += seconds
        return facts


@pytest.mark.parametrize("found", [IN_VAIN, GOT_IN])
def test_a_try_holds_up_nobody_and_is_made_once(found: ReachFacts) -> None:
    source = FakeSource((found, 0.5))
    direct = source.direct()
    assert [direct.reach([["ssh", "server3"]]) for _ in range(2)] == [found, found]
    assert source.tries == []


@pytest.mark.parametrize(
    ("tries", "made"),
    [
        # Silence is waited for twice, and no more.
        ([(IN_VAIN, 30.0)] * 4, 2),
        # A refusal is told at once: each target may be another.
        ([(IN_VAIN, 0.5)] * 4, 4),
        # One that got in says that the others may.
        ([(GOT_IN, 1.0), *[(IN_VAIN, 30.0)] * 3], 4),
        ([(IN_VAIN, 30.0), (GOT_IN, 1.0), (IN_VAIN, 30.0), (IN_VAIN, 30.0)], 4),
    ],
)
def test_how_often_silence_is_waited_for(
    tries: list[tuple[ReachFacts, float]], made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FakeSource(*tries)
    monkeypatch.setattr(time, "monotonic", lambda: source.now_seconds)
    # Each push has its own `RemoteDirect`.
    found = [source.direct().reach([["ssh", "server3"]]) for _ in tries]
    assert len(tries) - len(source.tries) == made
    assert [facts.which < 0 for facts in found[made:]] == [True] * len(source.tries)


def test_a_try_in_vain_stores_nothing_about_what_other_pushes_reach() -> None:
    """One of them may store at the same moment that it got in."""
    stored: list[bool] = []

    class Watched(FakeSource):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "has_reached":
                stored.append(bool(value))

    source = Watched((IN_VAIN, 30.0), (GOT_IN, 1.0))
    stored.clear()
    source.direct().reach([["ssh", "server3"]])
    assert stored == []
    source.direct().reach([["ssh", "server3"]])
    assert stored == [True]
