"""One command over a running `ssh` master, by the contract of `session.Session`."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator

from envsync.errors import ConnectionLost
from envsync.ssh import connection_errors
from envsync.ssh.mux import ExitStatus

_STDERR_TAIL_BYTES = 4096
_JOIN_SECONDS = 1.0


class OpensshSession:
    """A session; `why_lost` returns why the link is lost, or None if its ssh still runs."""

    def __init__(
        self,
        control: socket.socket,
        streams: tuple[socket.socket, socket.socket, socket.socket],
        server: str,
        silence_seconds: float,
        why_lost: Callable[[], str | None],
    ) -> None:
        self._control = control
        self._stdin, self._stdout, self._stderr = streams
        self._server = server
        self._silence_seconds = silence_seconds
        self._why_lost = why_lost
        self._closed = False
        self._ended_cleanly = False
        self._close_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._stderr_tail = b""
        self._status: int | None = None
        self._ended = threading.Event()
        self._stdin.settimeout(silence_seconds)
        self._stdout.settimeout(silence_seconds)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def has_ended_alone(self) -> bool:
        """Whether it ended, and not because the link did."""
        return self._ended.is_set() and not self._closed and self._why_lost() is None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        with self._lost_if_it_fails("accepted no data"), self._write_lock:
            while view:
                view = view[self._stdin.send(view) :]
            if self._closed:
                raise EOFError("closed")

    def read(self, size: int) -> bytes:
        with self._lost_if_it_fails("sent nothing"), self._read_lock:
            data = self._stdout.recv(size)
            if data:
                return data
            if self._closed:
                raise EOFError("closed")
            # The stream ends the same way when the command closes it and when the link breaks.
            if not self._ended_cleanly and self._status is None:
                reason = self._why_lost()
                if reason is not None:
                    raise connection_errors.lost(self._server, reason)
            self._ended_cleanly = True
            return b""

    def has_output(self) -> bool:
        """Return whether `read` would return at once."""
        with selectors.PollSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            return bool(selector.select(0))

    def close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.shutdown(socket.SHUT_WR)

    def exit_status(self, timeout_seconds: float) -> int | None:
        self._ended.wait(timeout_seconds)
        return self._status

    def stderr_tail(self) -> str:
        if self._ended.is_set():
            self._watcher.join(_JOIN_SECONDS)
        return self._stderr_tail.decode("utf-8", errors="replace")

    def close(self) -> None:
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        # The shutdown wakes a thread that waits in a read or a write; only then are the sockets
        # closed.
        for stream in (self._stdin, self._stdout, self._control, self._stderr):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        with self._write_lock:
            self._stdin.close()
        with self._read_lock:
            self._stdout.close()

    def _watch(self) -> None:
        """Read the exit status, and stderr, which would block the command once it is full."""
        status = ExitStatus()
        with selectors.DefaultSelector() as selector, self._control, self._stderr:
            for stream in (self._control, self._stderr):
                stream.setblocking(True)  # it is only read when it has data or has ended
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = _received(key.fileobj)
                    if not data:
                        selector.unregister(key.fileobj)
                    if key.fileobj is self._stderr:
                        self._stderr_tail = (self._stderr_tail + data)[-_STDERR_TAIL_BYTES:]
                        continue
                    exit_code = status.feed(data)
                    self._status = self._status if exit_code is None else exit_code
                    if not data or exit_code is not None:
                        self._ended.set()

    @contextlib.contextmanager
    def _lost_if_it_fails(self, silence: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            reason = f"it {silence} for {self._silence_seconds:g} seconds"
            raise connection_errors.lost(self._server, reason) from error
        except (OSError, EOFError) as error:
            raise self._explained() from error

    def _explained(self) -> ConnectionLost:
        if self._closed:
            return connection_errors.lost(self._server, "the session was closed here")
        reason = self._why_lost() or "the command ended before it read all of its input"
        return connection_errors.lost(self._server, reason)


def _received(stream: object) -> bytes:
    assert isinstance(stream, socket.socket)
    try:
        return stream.recv(65536)
    except OSError:
        return b""
