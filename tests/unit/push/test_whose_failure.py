"""Whose failure it is where contents of one server are being sent to another."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envsync.agent.wire.channel import Channel
from envsync.agent.wire.transfer_operations import RECEIVE
from envsync.errors import (
    ConnectionLost,
    EnvsyncError,
    SourceRefused,
    StorageFailed,
    TransferFailed,
)
from envsync.push.ends.end import RemoteEnd
from envsync.push.ends.local_source import LocalSource
from envsync.ssh.session import Session


class Taker:
    """A channel to an agent that takes what comes, until it is gone or answers too soon."""

    def __init__(self, *, lost: bool = False, answers: bool = False) -> None:
        self.lost, self.answers = lost, answers

    def send_message(self, *_: object) -> None: ...

    def send(self, *_: object) -> None:
        if self.lost:
            raise ConnectionLost("the connection is gone")

    def pending(self) -> bool:
        return self.answers

    def receive_message(self) -> tuple[dict[str, Any], bytes]:
        error = TransferFailed("it has had enough", server="another").to_json()
        return {"number": 1, "error": error}, b""


def target(taker: Taker) -> RemoteEnd:
    end = object.__new__(RemoteEnd)
    end.server, end._calls, end._channel = "target3", 0, cast(Channel, taker)
    end._session = cast(Session, SimpleNamespace(exit_status=lambda _: None))
    return end


def fails(server: str | None) -> Iterator[bytes]:
    yield b"x"
    raise StorageFailed("its disk fails", server=server)


@pytest.mark.parametrize("server", ["source2", None])
def test_a_failing_stream_is_not_the_targets(server: str | None) -> None:
    with pytest.raises(StorageFailed) as raised:
        target(Taker()).ask(RECEIVE, b"", stream=fails(server))
    assert raised.value.server == server


@pytest.mark.parametrize("taker", [Taker(lost=True), Taker(answers=True)])
def test_error_of_the_target_names_the_target(taker: Taker) -> None:
    """Also where its agent names another server."""
    with pytest.raises(EnvsyncError) as raised:
        target(taker).ask(RECEIVE, b"", stream=iter([b"x", b"y"]))
    assert raised.value.server == "target3"


class Agent:
    """A source on this machine that cannot be read."""

    path = b"/nowhere"
    server = "server1"
    serves_several = True

    def __init__(self, error: Exception) -> None:
        self.error = error

    def contents(self, *_: object, **__: object) -> Iterator[bytes]:
        yield b"x"
        raise self.error


@pytest.mark.parametrize(
    "error",
    [SourceRefused("it goes on changing"), OSError(errno.EIO, os.strerror(errno.EIO))],
)
def test_read_error_of_this_machine_names_this_machine(error: Exception) -> None:
    agent = cast(Any, Agent(error))
    source = LocalSource(agent, agent)
    with source.hashing_while_sent() as while_hashed:
        for contents in (source.supply.contents, while_hashed):
            with pytest.raises(EnvsyncError) as raised:
                target(Taker()).ask(RECEIVE, b"", stream=contents([], None))
            assert raised.value.server == "server1"
