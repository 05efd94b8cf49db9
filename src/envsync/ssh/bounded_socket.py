"""A socket that gives up when the peer accepts no data for too long.

paramiko writes with short socket timeouts and retries forever: a suspended server would block the
writer, and every thread that waits for its lock, until it wakes.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from typing import Protocol

# Enough for what a server sends before its first SSH line, if anything.
_HEARD_BYTES = 8192
_SHOWN_BYTES = 80


class SocketLike(Protocol):
    """What a transport needs: a socket, or a paramiko channel through a jump host."""

    def send(self, data: bytes, /) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def settimeout(self, seconds: float | None, /) -> None: ...

    def close(self) -> None: ...


class BoundedSocket:
    """A wrapper of `inner` whose `send` fails for good after `silence_seconds` without progress."""

    def __init__(
        self,
        inner: SocketLike,
        silence_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._stalled_since: float | None = None
        self._heard = b""
        # paramiko's Transport.close reads this attribute of its socket.
        self._closed = False

    def send(self, data: bytes) -> int:
        try:
            sent = self._inner.send(data)
        except TimeoutError:
            now = self._clock()
            if self._stalled_since is None:
                self._stalled_since = now
            if now - self._stalled_since >= self._silence_seconds:
                raise OSError(errno.ETIMEDOUT, "the other side accepts no data") from None
            raise
        self._stalled_since = None
        return sent

    def recv(self, size: int) -> bytes:
        data = self._inner.recv(size)
        if len(self._heard) < _HEARD_BYTES:
            self._heard += data[:_HEARD_BYTES]
        return data

    @property
    def heard(self) -> str:
        """The first line from a peer that does not speak SSH; empty if it does or sent nothing."""
        lines = self._heard.splitlines()
        if any(line.startswith(b"SSH-") for line in lines):
            return ""
        words = next((line for line in lines if line.strip()), b"")
        return words[:_SHOWN_BYTES].decode("utf-8", "backslashreplace").strip()

    def settimeout(self, seconds: float | None) -> None:
        self._inner.settimeout(seconds)

    def close(self) -> None:
        self._closed = True
        if isinstance(self._inner, socket.socket):
            with contextlib.suppress(OSError):
                self._inner.shutdown(socket.SHUT_RDWR)
        self._inner.close()
