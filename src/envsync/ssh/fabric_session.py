"""One command on a paramiko channel, by the contract of `session.Session`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from paramiko.ssh_exception import SSHException

from envsync.ssh import connection_errors

if TYPE_CHECKING:
    from paramiko import Channel

_STDERR_TAIL_BYTES = 4096
# How long `close` waits for the link to accept its goodbye before it gives up the link.
_CLOSE_SECONDS = 1.0


class FabricSession:
    """A session on `channel`; `cut` ends the whole link, as a last resort when it is stuck."""

    def __init__(
        self, channel: Channel, server: str, silence_seconds: float, cut: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._server = server
        self._silence_seconds = silence_seconds
        self._cut = cut
        self._closed = False
        self._close_lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._ahead = b""
        self._taken = 0
        self._stderr_tail = b""
        channel.settimeout(silence_seconds)
        # A command's stderr shares the channel's window with its stdout: left unread, it would
        # block both.
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        with self._lost_if_it_fails("accepted no data"):
            self._idle.clear()
            try:
                while view:
                    sent = self._channel.send(view)  # type: ignore[arg-type]
                    if sent == 0:
                        raise EOFError("the command's input is closed")
                    view = view[sent:]
            finally:
                self._idle.set()

    def read(self, size: int) -> bytes:
        if self._taken == len(self._ahead) or self._closed:
            # Read everything: paramiko moves the rest of its buffer after every read.
            self._ahead = self._receive(1 << 30)
            self._taken = 0
        piece = self._ahead[self._taken : self._taken + size]
        self._taken += len(piece)
        return piece

    def _receive(self, size: int) -> bytes:
        with self._lost_if_it_fails("sent nothing"):
            data: bytes = self._channel.recv(size)
            # In paramiko the stream ends the same way when the command closes it and when the link
            # breaks; only the former is announced.
            if data or (self._channel.eof_received and not self._closed):
                return data
            transport = self._channel.get_transport()
            if self._closed or not transport.is_active():
                raise transport.get_exception() or EOFError("closed")
            return b""

    def close_stdin(self) -> None:
        with self._lost_if_it_fails("accepted no data"):
            if not self._channel.closed:
                self._channel.shutdown_write()

    def exit_status(self, timeout_seconds: float) -> int | None:
        self._channel.status_event.wait(timeout_seconds)
        status = self._channel.exit_status
        return None if status < 0 else status

    def stderr_tail(self) -> str:
        if self._channel.closed or self._channel.eof_received:
            self._drain.join(_CLOSE_SECONDS)
        return self._stderr_tail.decode("utf-8", errors="replace")

    def close(self) -> None:
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        # On a frozen link the goodbye blocks, and so does a write in progress.
        goodbye = threading.Thread(target=close_quietly, args=[self._channel], daemon=True)
        goodbye.start()
        goodbye.join(_CLOSE_SECONDS)
        if goodbye.is_alive() or not self._idle.wait(_CLOSE_SECONDS):
            self._cut()

    def _drain_stderr(self) -> None:
        while True:
            try:
                data: bytes = self._channel.recv_stderr(65536)
            except TimeoutError:
                continue
            except (SSHException, OSError, EOFError):
                return
            if not data:
                return
            self._stderr_tail = (self._stderr_tail + data)[-_STDERR_TAIL_BYTES:]

    @contextlib.contextmanager
    def _lost_if_it_fails(self, silence: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            reason = f"it {silence} for {self._silence_seconds:g} seconds"
            raise connection_errors.lost(self._server, reason) from error
        except (SSHException, OSError, EOFError) as error:
            if self._closed:
                raise connection_errors.lost(self._server, "the session was closed here") from error
            transport = self._channel.get_transport()
            if transport.is_active() and self._channel.closed:
                reason = "the command ended before it read all of its input"
                raise connection_errors.lost(self._server, reason) from error
            raise connection_errors.lost(
                self._server, transport.get_exception() or error
            ) from error


def close_quietly(channel: Channel) -> None:
    """Close a channel whose link may be broken already; this can block on a frozen link."""
    with contextlib.suppress(SSHException, OSError, EOFError):
        channel.close()
