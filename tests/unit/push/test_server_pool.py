"""Many servers, some at a time: what a silent one costs the others."""

from __future__ import annotations

import _thread
import threading
from concurrent.futures import wait
from typing import Any

import pytest

from envsync.push import server_pool as module
from envsync.push.server_pool import Answered, ServerPool
from tests.support.processes import wait_until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOT_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.002)


def test_the_silent_give_their_places_to_others() -> None:
    """Eight of them would hold up all the others for as long as silence is waited for."""
    others_done = threading.Event()
    left = set(range(8, 30))

    def serve(place: int, _: Answered) -> int:
        if place < 8:
            assert others_done.wait(60), "the others waited for the silent ones"
        else:
            left.discard(place)
            if not left:
                others_done.set()
        return place

    pool = ServerPool(serve, range(30))
    pool.finish()
    assert pool.results() == list(range(30))


@pytest.mark.parametrize("why", ["they are at work", "there are as many as can be"])
def test_places_are_not_given_without_end(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOT_SECONDS", -1.0)  # of each it is over at once
    is_silent = why == "there are as many as can be"
    if is_silent:
        monkeypatch.setattr(module, "THREADS_MAX", 2)
    begun: list[int] = []
    may_end = threading.Event()

    def serve(place: int, answered: Answered) -> None:
        if not is_silent:
            answered()
        begun.append(place)
        assert may_end.wait(60)

    pool = ServerPool(serve, range(6), at_once=2)
    pool.begin()
    wait_until(lambda: len(begun) == 2, "two places are served")
    pool.begin()
    assert len(pool._running) == 2
    may_end.set()
    pool.finish()
    assert sorted(begun) == [*range(6)]


@pytest.mark.timeout(30)
def test_ctrl_c_just_before_the_wait_for_servers_ends_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about_to_wait, may_end = threading.Event(), threading.Event()

    def told(*arguments: Any) -> Any:
        about_to_wait.set()
        return wait(*arguments)

    def serve(_: int, _answered: Answered) -> None:
        assert about_to_wait.wait(60)
        _thread.interrupt_main()  # as a signal whose handler is still to run, which wakes nobody
        may_end.wait(60)

    monkeypatch.setattr(module, "wait", told)
    pool = ServerPool(serve, [1])
    with pytest.raises(KeyboardInterrupt):
        pool.finish()
    may_end.set()
    pool.abandon()
