"""What is said of processes that use the environment there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from envsync.agent.wire.messages import UNSEEN, Finding, ProcessUse, TargetState
from envsync.errors import EnvironmentInUse, PreflightRefused
from envsync.inventory.model import InUse
from envsync.push.ends.target_end import TargetEnd
from envsync.push.preflight import in_use
from envsync.push.preflight.in_use import await_unused, used_there
from envsync.push.request.settings import PushSettings
from envsync.push.switches import remove
from envsync.push.switches.remove import Removal


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "a process uses the environment there, and so on"),
        (2, "2 processes use the environment there, and so on"),
        (13, "13 processes use the environment there, and so on"),
    ],
)
def test_each_is_named_as_far_as_there_is_room(count: int, said: str) -> None:
    uses = [ProcessUse(number, f"job {number}") for number in range(count)]
    error = used_there(uses, "end them", then=", and so on")
    assert (error.message, error.hint) == (said, "end them")
    assert error.details == tuple(f"{number}  job {number}" for number in range(min(count, 12)))


JOB = (ProcessUse(7, "job"),)


class SimulatedTime:
    """Goes on where somebody sleeps, and nowhere else."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.mark.parametrize(("busy_seconds", "is_published"), [(599.0, True), (603.0, False)])
def test_wait_for_processes_ends(
    busy_seconds: float, is_published: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimulatedTime()
    monkeypatch.setattr(in_use, "time", clock)
    using = SimpleNamespace(using=lambda: JOB if clock.seconds < busy_seconds else ())
    settings = PushSettings("myenv", "server1:/w", "alice@server1", in_use="wait")

    def wait() -> tuple[ProcessUse, ...]:
        shown = contextlib.nullcontext()
        return await_unused(cast(TargetEnd, using), settings, lambda *_: shown)

    if is_published:
        assert wait() == ()
    else:
        with pytest.raises(EnvironmentInUse, match=r"^a process uses the environment") as refused:
            wait()
        assert refused.value.exit_code == 15
        assert refused.value.details == ("7  job",)
    assert 599.0 < clock.seconds < 605.0


def test_wait_for_processes_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_use, "_POLL_SECONDS", 0.0)
    told: list[object] = []

    @contextlib.contextmanager
    def shown(*wait: object) -> Iterator[None]:
        told.append(wait)
        yield

    def waiting(how: InUse, *answers: tuple[ProcessUse, ...]) -> tuple[ProcessUse, ...]:
        asked: Iterator[tuple[ProcessUse, ...]] = iter(answers)
        target = cast(TargetEnd, SimpleNamespace(using=lambda: next(asked)))
        settings = PushSettings("myenv", "server1:/w", "alice@server1", in_use=how)
        return await_unused(target, settings, shown)

    assert waiting("publish", JOB) == JOB
    assert waiting("wait", ()) == ()
    with pytest.raises(EnvironmentInUse):
        waiting("fail", JOB)
    assert told == []
    assert waiting("wait", JOB, JOB, ()) == ()
    assert told == [(JOB, 600.0)]


def test_nothing_is_removed_that_somebody_may_use_unseen() -> None:
    state = cast(TargetState, SimpleNamespace(findings=(Finding(UNSEEN, "no /proc"),)))
    removal = Removal("myenv", by="alice@server1", overwrite=True)
    with pytest.raises(PreflightRefused, match="is unknown") as refused:
        remove._require_permission(state, (), removal)
    assert "--used" in refused.value.hint
    remove._require_permission(state, (), replace(removal, used=True))
