"""Frames and channels: what is sent arrives, and everything else ends as an error by name."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.wire import channel
from envsync.agent.wire.channel import Channel
from envsync.agent.wire.frames import (
    CONTROL,
    DATA,
    DATA_END,
    DOCUMENT_BYTES_MAX,
    FRAME_BYTES_MAX,
    HEARTBEAT,
    PAYLOAD,
    PAYLOAD_BYTES_MAX,
    EndOfInput,
    Frame,
    read_frame,
    write_frame,
)
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError
from tests.support.processes import wait_until

frames = st.lists(
    st.builds(Frame, st.sampled_from([CONTROL, PAYLOAD, DATA]), st.binary(max_size=50))
)


def raw(*sent: Frame) -> bytes:
    parts: list[bytes] = []
    for frame in sent:
        write_frame(parts.append, frame.kind, frame.data)
    return b"".join(parts)


def reader(data: bytes, pieces: list[int] | None = None) -> Callable[[], Frame]:
    """A reader of bytes that come in pieces of these sizes, over and over."""
    rest = memoryview(data)
    sizes = pieces or [1 << 20]
    calls = [0]

    def read(size: int) -> bytes:
        nonlocal rest
        take = min(size, sizes[calls[0] % len(sizes)])
        calls[0] += 1
        part, rest = bytes(rest[:take]), rest[take:]
        return part

    return partial(read_frame, read)


def exhaust(receive: Callable[[], Any], received: list[Any] | None = None) -> None:
    """Call it until it raises."""
    while True:
        part = receive()
        if received is not None:
            received.append(part)


# --- frames -----------------------------------------------------------------------------


@given(frames, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_frames_arrive_however_they_are_cut(sent: list[Frame], pieces: list[int]) -> None:
    source = reader(raw(*sent), pieces)
    assert [source() for _ in sent] == sent
    with pytest.raises(EndOfInput):
        source()


@given(frames.filter(bool), st.data())
def test_a_cut_is_never_taken_for_a_frame(sent: list[Frame], data: st.DataObject) -> None:
    whole = raw(*sent)
    source = reader(whole[: data.draw(st.integers(0, len(whole) - 1))])
    received: list[Frame] = []
    with pytest.raises(EndOfInput):
        exhaust(source, received)
    assert received == sent[: len(received)]


@given(st.binary(max_size=100))
def test_noise_ends_as_an_error_by_name(noise: bytes) -> None:
    with pytest.raises((EndOfInput, AgentFailed)):
        exhaust(reader(noise))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"X" + bytes(4), id="unknown kind"),
        pytest.param(b"C" + struct.pack("<I", FRAME_BYTES_MAX + 1), id="a frame too large"),
        pytest.param(b"C" + struct.pack("<I", 0xFFFFFFFF), id="a frame of 4 GiB"),
        pytest.param(b"Welcome to server2!\n", id="what a login file prints"),
    ],
)
def test_damaged_frame_is_refused(data: bytes) -> None:
    with pytest.raises(AgentFailed):
        reader(data)()


def test_the_largest_frame() -> None:
    frame = Frame(DATA, bytes(FRAME_BYTES_MAX))
    assert reader(raw(frame))() == frame


def test_frames_of_many_threads_do_not_mix() -> None:
    parts: list[bytes] = []
    writer = Channel(lambda _: b"", parts.append)
    payloads = [bytes([number]) * 5000 for number in range(8)]
    threads = [
        threading.Thread(target=_write_often, args=(writer, payload)) for payload in payloads
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    source = reader(b"".join(parts))
    assert sorted(source().data for _ in range(160)) == sorted(payloads * 20)


def _write_often(writer: Channel, payload: bytes) -> None:
    for _ in range(20):
        writer.send(DATA, payload)


# --- channels ---------------------------------------------------------------------------


class Line:
    """A channel whose other side is a socket in the test's hands."""

    def __init__(
        self,
        silence_seconds: float = 30.0,
        heartbeat_seconds: float = 30.0,
        patience_seconds: float | None = None,
    ) -> None:
        self.far, near = socket.socketpair()
        self._near = near
        self.lost: list[Exception] = []
        self.is_lost = threading.Event()
        self.channel = Channel(
            lambda size: near.recv(min(size, 1 << 20)),
            near.sendall,
            self._on_lost,
            heartbeat_seconds=heartbeat_seconds,
            silence_seconds=silence_seconds,
            patience_seconds=patience_seconds,
        )
        self.channel.start()

    def _on_lost(self, error: Exception) -> None:
        self.lost.append(error)
        self.is_lost.set()

    def close(self) -> None:
        self.channel.close()
        for end in (self.far, self._near):
            end.close()


@pytest.fixture
def open_line() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(**seconds: float) -> Line:
        lines.append(Line(**seconds))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


@pytest.fixture
def line(open_line: Callable[..., Line]) -> Line:
    return open_line()


@pytest.mark.parametrize("size_bytes", [0, 1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1])
def test_message_arrives_with_its_payload(size_bytes: int, line: Line) -> None:
    payload = os.urandom(size_bytes)
    far = Channel(lambda size: line.far.recv(min(size, 1 << 20)), line.far.sendall)
    sender = threading.Thread(target=lambda: far.send_message({"a": "ü"}, payload))
    sender.start()
    document, received = line.channel.receive_message()
    sender.join()
    assert (document["a"], received) == ("ü", payload)


def test_error_of_a_thread_of_its_own_ends_it() -> None:
    """Otherwise, this side would be silent for a minute, and tell the other one nothing."""
    lost: list[Exception] = []

    def read(_: int) -> bytes:
        raise MemoryError

    short = Channel(read, lambda _: None, lost.append)
    short.start()
    with pytest.raises(MemoryError):
        short.receive()
    short.close()
    assert [type(error) for error in lost] == [MemoryError]


def control(**document: object) -> Frame:
    return Frame(CONTROL, json.dumps(document).encode())


BAD_MESSAGES = {
    "no JSON": [Frame(CONTROL, b"{")],
    "no text": [Frame(CONTROL, b"\xff\xfe")],
    "no object": [Frame(CONTROL, b"[1]")],
    "nothing": [Frame(CONTROL, b"")],
    "nested without end": [Frame(CONTROL, b"[" * 100_000)],
    "a payload before its message": [Frame(PAYLOAD, b"x")],
    "a payload of negative size": [control(payload_bytes=-1)],
    "a payload of absurd size": [control(payload_bytes=PAYLOAD_BYTES_MAX + 1)],
    "a payload of no size": [control(payload_bytes="5")],
    "a document of absurd size": [
        control(payload_bytes=DOCUMENT_BYTES_MAX + 1, document_bytes=DOCUMENT_BYTES_MAX + 1)
    ],
    "a document longer than its payload": [
        control(payload_bytes=1, document_bytes=2),
        Frame(PAYLOAD, b"{"),
    ],
    "a payload longer than announced": [control(payload_bytes=1), Frame(PAYLOAD, b"xx")],
    "an empty piece of payload": [control(payload_bytes=1), Frame(PAYLOAD, b"")],
    "another message inside a payload": [control(payload_bytes=1), control()],
    "the end of a stream inside a payload": [control(payload_bytes=1), Frame(DATA_END, b"")],
}


@pytest.mark.parametrize("sent", BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
def test_a_malformed_message_is_the_agents_failure(sent: list[Frame], line: Line) -> None:
    line.far.sendall(raw(*sent))
    with pytest.raises(AgentFailed):
        line.channel.receive_message()


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_two_frames_end_as_an_error_by_name(first: bytes, second: bytes) -> None:
    line = Line()
    try:
        line.far.sendall(raw(Frame(CONTROL, first), Frame(PAYLOAD, second)))
        line.far.shutdown(socket.SHUT_WR)
        with pytest.raises((AgentFailed, ConnectionLost)):
            exhaust(line.channel.receive_message)
    finally:
        line.close()


def test_leftovers_of_a_stream_are_dropped(line: Line) -> None:
    line.far.sendall(raw(Frame(DATA, b"x"), Frame(DATA_END, b""), control(a=1)))
    assert line.channel.receive_message() == ({"a": 1}, b"")


def test_heartbeats_are_nobodys_business(line: Line) -> None:
    line.far.sendall(raw(Frame(HEARTBEAT, b""), control(a=1), Frame(HEARTBEAT, b"")))
    assert line.channel.receive_message()[0] == {"a": 1}


@pytest.mark.parametrize(
    ("last", "error"),
    [
        pytest.param(b"", ConnectionLost, id="closed"),
        pytest.param(b"C\1", ConnectionLost, id="cut in a head"),
        pytest.param(b"C" + struct.pack("<I", 2) + b"x", ConnectionLost, id="cut in a frame"),
        pytest.param(b"nonsense", AgentFailed, id="nonsense"),
    ],
)
def test_the_end_is_told_once_and_to_everyone(
    last: bytes, error: type[EnvsyncError], line: Line
) -> None:
    line.far.sendall(raw(control(a=1)) + last)
    line.far.shutdown(socket.SHUT_WR)
    assert line.channel.receive_message()[0] == {"a": 1}
    for _ in range(3):
        with pytest.raises(error):
            line.channel.receive_message()
    assert line.is_lost.wait(10)
    assert [type(one) for one in line.lost] == [error]


def test_the_end_comes_after_all_that_was_received_before_it(line: Line) -> None:
    """Whoever forwards a stream would forward it with a gap."""
    sent = [Frame(DATA, b"%d" % number) for number in range(40)]
    line.far.sendall(raw(*sent))
    line.far.shutdown(socket.SHUT_WR)
    received = [line.channel.receive() for _ in sent[channel._QUEUED_FRAMES :]]
    assert line.is_lost.wait(10), "with as many frames queued as there is room for"
    with pytest.raises(ConnectionLost):
        exhaust(line.channel.receive, received)
    assert received == sent


def test_sending_into_a_closed_session_is_a_lost_connection(line: Line) -> None:
    line.far.close()
    with pytest.raises(ConnectionLost):
        exhaust(lambda: line.channel.send(DATA, bytes(1 << 16)))


def test_open_channel_sends_heartbeats(open_line: Callable[..., Line]) -> None:
    line = open_line(heartbeat_seconds=0.01)
    source = partial(read_frame, line.far.recv)
    assert [source().kind for _ in range(3)] == [HEARTBEAT] * 3


def test_silence_ends_a_channel(open_line: Callable[..., Line]) -> None:
    line = open_line(heartbeat_seconds=0.05, silence_seconds=0.1)
    with pytest.raises(ConnectionLost, match="nothing received"):
        line.channel.receive()
    assert line.is_lost.wait(10)


class Clock:
    """In the place of the channel's `time`: it goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now


def test_heartbeats_keep_a_channel_alive(
    open_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(channel, "time", clock)
    line = open_line(heartbeat_seconds=0.01, silence_seconds=60.0)
    for _ in range(5):
        clock.now += 40.0
        line.far.sendall(raw(Frame(HEARTBEAT, b"")))
        wait_until(lambda: line.channel._heard == clock.now, "it is heard")
    before = clock.looks
    wait_until(lambda: clock.looks > before + 1, "somebody listens for silence")
    assert not line.lost
    clock.now += 61.0
    assert line.is_lost.wait(10)


def test_a_side_that_only_beats_is_not_waited_for_for_ever(
    open_line: Callable[..., Line],
) -> None:
    line = open_line(patience_seconds=0.1)
    line.far.sendall(raw(Frame(HEARTBEAT, b"")))
    with pytest.raises(AgentFailed, match="it is connected, but sent nothing"):
        line.channel.receive()


def test_silence_ends_a_channel_that_cannot_send(open_line: Callable[..., Line]) -> None:
    """A frozen laptop takes nothing: the agent must not wait for it with its locks held."""
    line = open_line(heartbeat_seconds=0.05, silence_seconds=0.2)
    stuck = threading.Thread(target=_send_for_ever, args=(line,), daemon=True)
    stuck.start()
    assert line.is_lost.wait(10)
    assert isinstance(line.lost[0], ConnectionLost)
    line.far.close()
    stuck.join(10)
    assert not stuck.is_alive()


def _send_for_ever(line: Line) -> None:
    try:
        while True:
            line.channel.send(DATA, bytes(1 << 16))
    except ConnectionLost:
        pass
