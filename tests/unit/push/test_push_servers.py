"""Questions to several servers: bounded, in order, and no failure stops the others."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from envsync.agent.wire.server_operations import LIST, AskEnvironments
from envsync.errors import ConnectionFailed, EnvsyncError, NotFound
from envsync.push import server_pool
from envsync.push.ends.end import End, LocalEnd
from envsync.push.queries.servers import Outcome, for_each_server
from envsync.push.request.places import Place
from envsync.ssh.session import Link


def _places(count: int) -> list[Place]:
    return [Place(f"server{number}", "/prefix") for number in range(count)]


def test_answers_come_in_the_order_of_the_places() -> None:
    first_may_end = threading.Event()

    def ask(end: End, place: Place) -> str:
        if place.server == "server0":
            assert first_may_end.wait(10)
        else:
            first_may_end.set()
        return place.server

    outcomes = for_each_server(_places(2), ask)
    assert [outcome.value for outcome in outcomes] == ["server0", "server1"]


def test_servers_are_asked_a_limited_number_at_a_time() -> None:
    lock, all_here = threading.Lock(), threading.Barrier(3)
    now = most = 0

    def ask(end: End, place: Place) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        all_here.wait(10)
        with lock:
            now -= 1

    for_each_server(_places(9), ask, at_once=3)
    assert most == 3


def test_a_server_at_work_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one that does not answer gives it up: a disk that many share is hashed by few."""
    monkeypatch.setattr(server_pool, "SLOT_SECONDS", -1.0)
    monkeypatch.setattr(server_pool, "_LOOK_SECONDS", 0.0)
    looks, seen_often = [0], threading.Event()
    at_work, most = set[str](), [0]
    begin = server_pool.ServerPool.begin

    def counted(self: server_pool.ServerPool[Place, object]) -> None:
        begin(self)
        looks[0] += 1
        if looks[0] > 20:
            seen_often.set()

    def ask(end: End, place: Place) -> None:
        at_work.add(place.server)
        most[0] = max(most[0], len(at_work))
        assert seen_often.wait(60)
        at_work.discard(place.server)

    monkeypatch.setattr(server_pool.ServerPool, "begin", counted)
    for_each_server(_places(6), ask, at_once=2)
    assert most == [2]


def test_a_failure_is_an_outcome_with_its_server() -> None:
    def refuse() -> Link:
        raise ConnectionFailed("it is off")

    def broken() -> Link:
        raise PermissionError(13, "not allowed")

    places = [Place("a", "/p", refuse), Place("b", "/p", broken), Place("c", "/p")]
    seen: list[Outcome[int]] = []
    outcomes = for_each_server(places, lambda end, place: 1, seen.append)
    assert [type(outcome.error) for outcome in outcomes] == [
        ConnectionFailed,
        EnvsyncError,
        type(None),
    ]
    assert [outcome.error and outcome.error.server for outcome in outcomes] == ["a", "b", None]
    assert outcomes[2].value == 1
    assert {outcome.server for outcome in seen} == {"a", "b", "c"}


def test_the_place_without_a_link_is_this_machine(tmp_path: Path) -> None:
    def ask(end: End, place: Place) -> object:
        assert isinstance(end, LocalEnd)
        return end.ask(LIST, AskEnvironments(place.prefix, (), {}))

    (outcome,) = for_each_server([Place("here", str(tmp_path / "nothing"))], ask)
    assert isinstance(outcome.error, EnvsyncError)
    assert outcome.error.server == "here"


def test_an_interruption_waits_for_nobody() -> None:
    may_end = threading.Event()

    def ask(end: End, place: Place) -> None:
        if place.server == "server0":
            os.kill(os.getpid(), signal.SIGINT)
        may_end.wait(30)

    try:
        with pytest.raises(KeyboardInterrupt):
            for_each_server(_places(20), ask, at_once=2)
    finally:
        may_end.set()


def test_a_bug_is_raised_when_the_others_are_done() -> None:
    asked = []

    def ask(end: End, place: Place) -> None:
        asked.append(place.server)
        if place.server == "server0":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_each_server(_places(5), ask, at_once=1)
    assert len(asked) == 5


def test_errors_keep_the_server_that_they_name() -> None:
    def ask(end: End, place: Place) -> None:
        raise NotFound("no", server="jump")

    (outcome,) = for_each_server(_places(1), ask)
    assert outcome.error is not None
    assert outcome.error.server == "jump"


def test_the_document_of_an_outcome() -> None:
    error = NotFound("no", server="server1")
    assert Outcome("server1", error=error).document() == {
        "server": "server1",
        "error": error.to_json(),
    }
    assert Outcome("server1", value=1).document() == {"server": "server1", "error": None}
