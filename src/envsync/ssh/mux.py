"""A client of a running `ssh` master: commands over the connection that it holds.

OpenSSH documents this protocol (PROTOCOL.mux, version 4 since 2010). It is spoken here instead of
running `ssh -S` for each command, because that does not say when a session was granted or why not,
exits with 255 for any failure, and keeps stdout open until it ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PATH_BYTES_MAX = 107
"""The kernel's limit for the path of a Unix socket."""

_VERSION = 4
_HELLO = 0x00000001
_NEW_SESSION = 0x10000002
_ALIVE_CHECK = 0x10000004
_PERMISSION_DENIED = 0x80000002
_FAILURE = 0x80000003
_EXIT_MESSAGE = 0x80000004
_ALIVE = 0x80000005
_SESSION_OPENED = 0x80000006
_NO_ESCAPE_CHARACTER = 0xFFFFFFFF
_REQUEST = 1
_PACKET_BYTES_MAX = 1 << 18


class SessionRefused(Exception):
    """The master, or the server behind it, grants no session; the text says why."""


class SessionRequest(NamedTuple):
    """A command, or the name of a subsystem, to start on the server.

    With `forwards_agent` it can use the user's agent, if the master was started to forward it.
    """

    command: str
    is_subsystem: bool = False
    forwards_agent: bool = False


def is_ours(path: Path) -> bool:
    """Return whether `path` is a socket of this user: in /tmp, anybody may have put one there."""
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()


def is_alive(path: Path, timeout_seconds: float) -> bool:
    """Return whether a master answers there; the server is not asked."""
    try:
        with _connected(path, timeout_seconds) as control:
            _send(control, struct.pack(">II", _ALIVE_CHECK, _REQUEST))
            return _kind(_receive(control)) == _ALIVE
    except (OSError, EOFError):
        return False


def open_session(
    path: Path,
    request: SessionRequest,
    streams: Sequence[socket.socket],
    timeout_seconds: float,
) -> socket.socket:
    """Start a command with these stdin, stdout and stderr, which are passed to the master.

    Closing the returned socket ends the session, and `ExitStatus` reads from it how the command
    ended. Raises `SessionRefused`, or OSError and EOFError if no master answers in time.
    """
    control = _connected(path, timeout_seconds)
    try:
        # The first two flags: terminal, X11.
        flags = (False, False, request.forwards_agent, request.is_subsystem)
        head = struct.pack(">III4II", _NEW_SESSION, _REQUEST, 0, *flags, _NO_ESCAPE_CHARACTER)
        _send(control, head + _text("") + _text(request.command))
        for stream in streams:
            socket.send_fds(control, [b"\0"], [stream.fileno()])
        _require_opened(_receive(control))
        control.settimeout(None)
    except BaseException:
        control.close()
        raise
    return control


class ExitStatus:
    """Finds the exit status in the data from a session's control socket, fed piece by piece."""

    def __init__(self) -> None:
        self._ahead = b""

    def feed(self, data: bytes) -> int | None:
        self._ahead += data
        while len(self._ahead) >= 4:
            size = struct.unpack_from(">I", self._ahead)[0]
            packet, rest = self._ahead[4 : 4 + size], self._ahead[4 + size :]
            if len(packet) < size or size > _PACKET_BYTES_MAX:
                break
            self._ahead = rest
            if _kind(packet) == _EXIT_MESSAGE and size >= 12:
                return int(struct.unpack_from(">I", packet, 8)[0])
        return None


def _connected(path: Path, timeout_seconds: float) -> socket.socket:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        control.settimeout(timeout_seconds)
        control.connect(os.fspath(path))
        _send(control, struct.pack(">II", _HELLO, _VERSION))
        _require_hello(_receive(control))
    except BaseException:
        control.close()
        raise
    return control


def _require_hello(packet: bytes) -> None:
    if packet[:8] != struct.pack(">II", _HELLO, _VERSION):
        raise EOFError("it speaks another version of the protocol")


def _require_opened(packet: bytes) -> None:
    if _kind(packet) != _SESSION_OPENED:
        raise SessionRefused(_reason(packet))


def _send(control: socket.socket, packet: bytes) -> None:
    control.sendall(struct.pack(">I", len(packet)) + packet)


def _receive(control: socket.socket) -> bytes:
    size = struct.unpack(">I", _exactly(control, 4))[0]
    if size > _PACKET_BYTES_MAX:
        raise EOFError("it does not speak the protocol")
    return _exactly(control, size)


def _exactly(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = control.recv(size - len(data))
        if not part:
            raise EOFError("it closed the control socket")
        data += part
    return data


def _kind(packet: bytes) -> int:
    return int.from_bytes(packet[:4], "big")


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack(">I", len(data)) + data


def _reason(packet: bytes) -> str:
    if _kind(packet) not in (_PERMISSION_DENIED, _FAILURE):
        return f"unexpected answer {_kind(packet):#x}"
    with contextlib.suppress(struct.error):
        size = struct.unpack_from(">I", packet, 8)[0]
        return packet[12 : 12 + size].decode("utf-8", "replace")
    return "it gives no reason"
