"""A push to an agent that is honest but where a test makes it lie, all in this process."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest import mock

import pytest

from envsync.agent.operations.service import Service
from envsync.agent.server import filesystem
from envsync.agent.trees.hashing import Hashing
from envsync.agent.wire.frames import (
    CONTROL,
    DATA,
    HEARTBEAT,
    PAYLOAD,
    EndOfInput,
    Frame,
    read_frame,
)
from envsync.cli.output.terminal import Terminal
from envsync.cli.pushing.report_text import report_lines
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError
from envsync.push.ends.end import LocalEnd, RemoteEnd
from envsync.push.ends.local_source import LocalSource, open_local
from envsync.push.ends.remote_source import open_remote
from envsync.push.ends.target_end import TargetEnd, open_request
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import PushReport
from envsync.push.switches import in_doubt
from envsync.ssh.session import Link
from tests.support.disk import memory
from tests.support.one_push import one_push
from tests.support.processes import wait_until

NAME = "myenv"
FILES = {"conda-meta/history": "==> now <==\n", "bin/tool": "#!/bin/sh\n", "lib/a.py": "a = 1\n"}


class Answer(NamedTuple):
    """An answer as it is sent: JSON, and the bytes beside it."""

    document: Any
    payload: bytes = b""


Lie = Callable[[str, int, Answer], "bytes | None"]
"""What goes out instead of the answer to an operation, by its number; None for the truth."""


class SocketSession:
    """A session whose other side is a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def set_silence(self, seconds: float) -> None:
        """Let a read give up after so long."""
        self._end.settimeout(seconds)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._end.sendall(data)
        except OSError as error:
            raise ConnectionLost("gone") from error

    def read(self, size: int) -> bytes:
        try:
            return self._end.recv(min(size, 1 << 20))
        except OSError as error:
            raise ConnectionLost("gone") from error

    def close_stdin(self) -> None:
        self._end.shutdown(socket.SHUT_WR)

    def exit_status(self, timeout_seconds: float) -> int | None:
        return None

    def stderr_tail(self) -> str:
        return ""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


@dataclass(eq=False)
class FakeLink:
    """A link whose one session `serve` answers, in a thread of its own."""

    serve: Callable[[socket.socket], None]
    server: str = "server2"
    threads: list[threading.Thread] = field(default_factory=list)

    def run(self, command: str) -> SocketSession:
        near, far = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=[far], daemon=True)
        thread.start()
        self.threads.append(thread)
        return SocketSession(near)

    def _serve(self, far: socket.socket) -> None:
        with far, contextlib.suppress(OSError, EndOfInput, AgentFailed):
            self.serve(far)

    def close(self) -> None:
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


def begin(far: socket.socket) -> Callable[[], Frame]:
    """Take the bootstrap's lines and modules; what follows are frames."""
    token = take_token(far)
    far.sendall(b"\n" + token + b"\n" + MAGIC_NUMBER.hex().encode() + b"\n")
    _, size = struct.unpack("<BI", exactly(far, 5))
    exactly(far, size)
    return partial(read_frame, lambda size: far.recv(min(size, 1 << 20)))


def take_token(far: socket.socket) -> bytes:
    """The token that the agent has to say, from the program that it is sent."""
    line(far)
    program = bytes.fromhex(line(far).split(b"fromhex('")[1].split(b"')")[0].decode())
    found = re.search(rb"envsync-[0-9a-f]{32}", program)
    assert found is not None
    return found[0]


def line(far: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        data += exactly(far, 1)
    return data


def exactly(far: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = far.recv(min(size, 1 << 20))
        if not part:
            raise OSError("closed")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def frame(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<cI", kind, len(data)) + data


def message(document: object, payload: bytes = b"") -> bytes:
    """A control frame with its payload, whatever the document is."""
    head = frame(CONTROL, json.dumps(document).encode())
    pieces = range(0, len(payload), 1 << 20)
    return head + b"".join(frame(PAYLOAD, payload[at : at + (1 << 20)]) for at in pieces)


def failed(number: object, error: object) -> bytes:
    return message({"error": error, "number": number})


def answer(number: object, document: object, payload: bytes = b"") -> bytes:
    told: dict[str, object] = {"answer": document, "number": number}
    if payload:
        told["payload_bytes"] = len(payload)
    return message(told, payload)


def _unchanged(data: bytes) -> bytes:
    return data


class LyingAgent:
    """The agent's own code behind a socket; `lie` sees every answer before it goes out.

    `spoil` sees the blocks of contents that it sends as a source.
    """

    def __init__(self, lie: Lie, spoil: Callable[[bytes], bytes] = _unchanged) -> None:
        self._lie = lie
        self._spoil = spoil
        self.asked: list[str] = []

    def serve(self, far: socket.socket) -> None:
        frames = begin(far)
        service = Service(
            emit=lambda data: far.sendall(frame(DATA, self._spoil(data))),
            stream=lambda: self._block(frames),
        )
        with contextlib.closing(service):  # as its process would end
            while True:
                request, payload = self._request(frames)
                operation = request["operation"]
                self.asked.append(operation)
                number = request["number"]
                try:
                    truth = Answer(*service.answer(operation, request["request"], payload))
                except EnvsyncError as error:
                    far.sendall(failed(number, error.to_json()))
                    continue
                said = self._lie(operation, number, truth)
                far.sendall(answer(number, truth.document, truth.payload) if said is None else said)

    @staticmethod
    def _request(frames: Callable[[], Frame]) -> tuple[Mapping[str, Any], bytes]:
        got = frames()
        while got.kind != CONTROL:
            got = frames()
        document = json.loads(got.data)
        payload = b""
        while len(payload) < document.get("payload_bytes", 0):
            payload += frames().data
        return document, payload

    @staticmethod
    def _block(frames: Callable[[], Frame]) -> bytes | None:
        got = frames()
        while got.kind == HEARTBEAT:
            got = frames()
        return got.data if got.kind == DATA else None


class Scene:
    """A source here, and prefixes for targets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source_prefix = root / "source"
        for name, text in FILES.items():
            path = self.source_prefix / "envs" / NAME / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._count = 0

    def target(self) -> Path:
        """A new prefix."""
        self._count += 1
        prefix = self.root / f"target{self._count}"
        (prefix / "envs").mkdir(parents=True)
        (prefix / "conda-meta").mkdir()
        return prefix

    def _settings(self) -> PushSettings:
        return PushSettings(
            environment=NAME,
            source="server1",
            who="alice@server1",
            check_timeout_seconds=0.0,
        )

    def _opened(self, settings: PushSettings) -> LocalSource:
        return open_local(Place("server1", str(self.source_prefix)), NAME, settings.local)

    def pull(self, serve: Callable[[socket.socket], None], prefix: Path) -> PushReport:
        """Bring `myenv` of whoever serves here, below a prefix."""
        settings = self._settings()

        def open_link() -> Link:
            return cast("Link", FakeLink(serve))

        place = Place("server2", str(self.source_prefix), open_link)
        with (
            contextlib.closing(open_remote(place, NAME, settings.local)) as source,
            contextlib.closing(LocalEnd("server1")) as end,
        ):
            target = TargetEnd(end, open_request(settings, str(prefix)))
            return one_push(settings, source, target, _no_way_back)

    def push(self, serve: Callable[[socket.socket], None], prefix: Path) -> PushReport:
        """Push `myenv` to whoever serves."""
        settings = self._settings()
        source = self._opened(settings)
        link = FakeLink(serve)
        seen = cast("Link", link)
        with contextlib.closing(link), opened(seen, prefix) as end:
            target = TargetEnd(end, open_request(settings, str(prefix)))
            return one_push(settings, source, target, _no_way_back)

    def push_to(self, destinations: Sequence[Destination]) -> list[PushReport]:
        """Push `myenv` to several servers."""
        here = Place("server1", str(self.source_prefix))
        return FanOut(self._settings(), here, destinations).run()

    def push_ahead(
        self, serve: Callable[[socket.socket], None], prefix: Path, may_hash: threading.Event
    ) -> PushReport:
        """Push it while it is hashed, which goes on only when it may."""
        settings = self._settings()
        source = self._opened(settings)
        link = FakeLink(serve)
        seen = cast("Link", link)
        real = Hashing.files

        def files(*arguments: Any) -> bool:
            assert may_hash.wait(60)
            return real(*arguments)

        with (
            mock.patch.object(Hashing, "files", files),
            ThreadPoolExecutor(1) as pool,
            contextlib.closing(link),
            opened(seen, prefix) as end,
        ):
            looking = pool.submit(source.look.state)
            wait_until(lambda: source.look.is_being_hashed() or looking.done(), "it is hashed")
            target = TargetEnd(end, open_request(settings, str(prefix)))
            report = one_push(settings, source, target, _no_way_back)
            looking.result()
            return report


def _no_way_back() -> contextlib.AbstractContextManager[TargetEnd]:
    raise ConnectionLost("gone for good")


@contextlib.contextmanager
def opened(link: Link, prefix: Path) -> Iterator[RemoteEnd]:
    end = RemoteEnd(link, os.fspath(prefix))
    try:
        yield end
    finally:
        end.close()


@contextlib.contextmanager
def scenery() -> Iterator[Scene]:
    """A source, and no patience with servers that went away."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=memory()) as root:
        patch.setenv("HOME", root)
        patch.delenv("XDG_CACHE_HOME", raising=False)
        patch.delenv("XDG_STATE_HOME", raising=False)
        patch.setattr(filesystem, "FINE_MARGIN_SECONDS", 0.0)
        patch.setattr(in_doubt, "RECONNECT_SECONDS_MAX", 0.0)
        yield Scene(Path(root))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """One source for all pushes."""
    with scenery() as made:
        yield made


def require_calm(ended: PushReport | EnvsyncError, *servers: str) -> None:
    """What a person and a program are told of it is printable, short and whole.

    An error names one of these servers, which without any is the target.
    """
    out = io.StringIO()
    terminal = Terminal(out, out, {})
    if isinstance(ended, PushReport):
        for text in report_lines(ended, verbose=True):
            terminal.say(text)
        for warning in ended.warnings:
            terminal.warning(warning)
    else:
        assert ended.server in (servers or ("server2",))
        terminal.error(ended)
        json.dumps(ended.to_json()).encode("ascii")
    assert all(character.isprintable() for character in out.getvalue() if character != "\n")
    assert len(out.getvalue()) < 300_000


DEEP: Any = "bottom"
for _ in range(400):
    DEEP = [DEEP]
DROPPED = object()
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**62, 2**63, 2**64, -(2**64), 10**400, 1.5, 1e308, float("nan"),
    float("inf"), "", "x", "/", "..", "\x1b]0;owned\x07", "[red]:smile:[/]", "\ud800", "\udcff",
    "a\0b", "new\nline", "\u202eevil", "x" * 100_000, [], [[]], ["x"] * 1000, {}, {"x": {}}, DEEP,
]  # fmt: skip


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every node of a document, by the keys that lead to it."""
    yield path
    if isinstance(document, dict | list):
        inner = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in inner:
            yield from places(value, (*path, key))


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return None if value is DROPPED else value
    document = copy.deepcopy(document)
    parent: Any = document
    for key in path[:-1]:
        parent = parent[key]
    if value is DROPPED:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return document


def another_value(operation: str, which: int, value: Any) -> Lie:
    """One value of that operation's answers is another one, or is missing."""

    def lie(asked: str, number: int, truth: Answer) -> bytes | None:
        if asked != operation:
            return None
        found = sorted(places(truth.document), key=repr)
        document = changed(truth.document, found[which % len(found)], value)
        return answer(number, document, truth.payload)

    return lie
