"""A channel: frames with liveness over a session, used by both sides of a connection.

One thread reads, one sends heartbeats, one watches for silence. A side that hears nothing for
`SILENCE_SECONDS`, or reaches the end of its input, considers the other one gone. The caller
decides what then happens: the agent exits, which releases its locks; the command reports a lost
connection. If a thread itself fails, as for lack of memory, its exception ends the channel.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from typing import Any, Callable, Dict, Optional, Tuple, Union

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

HEARTBEAT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
_QUEUED_FRAMES = 16


class Channel:
    """Sends and receives frames. `on_lost` is called at most once, from one of its threads."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes], None],
        on_lost: Callable[[Exception], None] = lambda _: None,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        patience_seconds: Optional[float] = None,
    ) -> None:
        """`patience_seconds` limits how long `receive` waits while only heartbeats arrive."""
        self._read = read
        self._write = write
        self._write_lock = threading.Lock()
        self._on_lost = on_lost
        self._heartbeat_seconds = heartbeat_seconds
        self._silence_seconds = silence_seconds
        self._patience_seconds = patience_seconds
        self._frames: queue.Queue[Union[Frame, Exception]] = queue.Queue()
        # Limits the frames, but not the error that ends the channel and comes after them.
        self._room = threading.Semaphore(_QUEUED_FRAMES)
        self._kept: Optional[Frame] = None
        self._heard = time.monotonic()
        self._closed = threading.Event()
        self._lost: Optional[Exception] = None
        self._lost_lock = threading.Lock()

    def start(self) -> None:
        for name, work in (
            ("frames", self._read_frames),
            ("heartbeat", self._beat),
            ("silence", self._watch),
        ):
            threading.Thread(target=self._run, args=[work], name=name, daemon=True).start()

    def close(self) -> None:
        """Stop heartbeat and watch; a waiting read ends when the caller closes the session."""
        self._closed.set()

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Write one frame; `ConnectionLost` if the other side is gone."""
        try:
            with self._write_lock:
                write_frame(self._write, kind, data)
        except OSError as error:
            raise ConnectionLost("the connection was lost") from error

    def send_message(self, document: Dict[str, Any], payload: bytes = b"") -> None:
        """Send a control frame and the payload that it announces.

        A document too large for a frame is sent at the start of the payload.
        """
        if payload:
            document = {**document, "payload_bytes": len(payload)}
        data = json.dumps(document).encode()
        if len(data) > FRAME_BYTES_MAX:
            payload = data + payload
            sizes = {"document_bytes": len(data), "payload_bytes": len(payload)}
            data = json.dumps(sizes).encode()
        self.send(CONTROL, data)
        for start in range(0, len(payload), FRAME_BYTES_MAX):
            self.send(PAYLOAD, payload[start : start + FRAME_BYTES_MAX])

    def receive(self) -> Frame:
        """Return the next frame that is not a heartbeat, or raise the error that ended the channel.

        The error comes after every frame that arrived before it. Raises `AgentFailed` if the other
        side is alive but sent nothing for `patience_seconds`.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        try:
            item = self._frames.get(timeout=self._patience_seconds)
        except queue.Empty:
            raise AgentFailed(
                "it is connected, but sent nothing for %.0f s" % (self._patience_seconds or 0.0),
                hint="check what the server is doing, then run the same command again",
            ) from None
        if isinstance(item, Exception):
            self._frames.put(item)
            raise item
        self._room.release()
        return item

    def receive_message(self) -> Tuple[Dict[str, Any], bytes]:
        """Return the next message with its payload, dropping leftovers of a stream."""
        frame = self.receive()
        while frame.kind in (DATA, DATA_END):
            frame = self.receive()
        if frame.kind != CONTROL:
            raise AgentFailed("the other side does not speak the protocol")
        document = _document(frame.data)
        size = document.get("document_bytes", 0)
        if not isinstance(size, int) or not 0 <= size <= DOCUMENT_BYTES_MAX:
            raise AgentFailed("received a document of invalid size")
        payload = self._payload(document)
        if size > len(payload):
            raise AgentFailed("received a document of invalid size")
        return (_document(payload[:size]), payload[size:]) if size else (document, payload)

    def receive_data(self) -> Optional[bytes]:
        """Return the next part of a stream; None if another frame comes next, which is kept."""
        frame = self.receive()
        if frame.kind == DATA:
            return frame.data
        self._kept = frame
        return None

    def pending(self) -> bool:
        """Return whether a frame, or the error that ended the channel, waits to be received."""
        return not self._frames.empty()

    def _payload(self, document: Dict[str, Any]) -> bytes:
        left = document.get("payload_bytes", 0)
        if not isinstance(left, int) or not 0 <= left <= PAYLOAD_BYTES_MAX:
            raise AgentFailed("received a payload of invalid size")
        parts = []
        while left:
            frame = self.receive()
            if frame.kind != PAYLOAD or not 0 < len(frame.data) <= left:
                raise AgentFailed("received an incomplete payload")
            parts.append(frame.data)
            left -= len(frame.data)
        return b"".join(parts)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - otherwise, everybody would wait for this thread
            self._end(error)

    def _read_frames(self) -> None:
        try:
            while True:
                frame = read_frame(self._read)
                self._heard = time.monotonic()
                if frame.kind != HEARTBEAT:
                    self._hand_over(frame)
        except EndOfInput:
            self._end(ConnectionLost("the connection was closed"))
        except EnvsyncError as error:
            self._end(error)
        except (OSError, ValueError) as error:
            self._end(ConnectionLost(f"the connection was lost: {error}"))

    def _hand_over(self, frame: Frame) -> None:
        """Queue a frame; while the queue is full, the other side does not count as silent."""
        while not self._closed.is_set():
            if self._room.acquire(timeout=1.0):
                self._frames.put(frame)
                return
            self._heard = time.monotonic()

    def _watch(self) -> None:
        """Watch for silence, in its own thread because `_beat` may block in a write."""
        while not self._closed.wait(min(self._heartbeat_seconds, self._silence_seconds / 4)):
            if time.monotonic() - self._heard > self._silence_seconds:
                self._end(ConnectionLost(f"nothing received for {self._silence_seconds:.0f} s"))
                return

    def _beat(self) -> None:
        while not self._closed.wait(self._heartbeat_seconds):
            try:
                self.send(HEARTBEAT)
            except ConnectionLost as error:
                self._end(error)
                return

    def _end(self, error: Exception) -> None:
        with self._lost_lock:
            if self._lost is not None or self._closed.is_set():
                error = self._lost or error
            else:
                self._lost = error
                self._on_lost(error)
        self._frames.put(error)


def _document(data: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AgentFailed("the other side does not speak the protocol") from error
    if not isinstance(document, dict):
        raise AgentFailed("the other side does not speak the protocol")
    return document
