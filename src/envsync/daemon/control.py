"""The daemon's control socket: for this user and root, one request and answer per connection.

Both are a JSON document on one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from envsync.agent.server.linux_constants import O_PATH
from envsync.daemon.paths import REMOVED, DaemonPaths
from envsync.errors import (
    EnvsyncError,
    Locked,
    NotFound,
    ServiceFailed,
    StorageFailed,
    error_from_json,
)

ANSWER_SECONDS = 10.0
_REQUEST_BYTES_MAX = 1 << 16
_ANSWER_BYTES_MAX = 16 << 20
_READ_BYTES = 1 << 16
_SEND_SECONDS = 2.0

Request = Mapping[str, Any]
Answer = dict[str, Any]


class ControlSocket:
    """The listening end. When `fd` is readable, call `serve_one`."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, in place of the socket of a daemon that is gone.

        Raises `Locked` if one listens there: it has its state, and so its lock, elsewhere.
        """
        require_unserved(path)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind()
        except OSError as error:
            self._socket.close()
            raise StorageFailed(
                f"cannot create {path}: {error.strerror}",
                hint="set XDG_RUNTIME_DIR to a directory that this user can write",
            ) from error
        self._socket.listen(16)
        self._socket.setblocking(False)

    def _bind(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with _short(self._path) as name:
                self._socket.bind(name)
        finally:
            os.umask(before)

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def serve_one(self, handle: Callable[[Request], Answer]) -> None:
        """Accept one connection, and answer with the result of `handle` or the error it raises.

        The wait for a slow client is short, because no other client is served meanwhile.
        """
        with contextlib.suppress(OSError, ValueError, RecursionError):
            connection, _ = self._socket.accept()
            with connection:
                if _peer_uid(connection) not in (os.geteuid(), 0):
                    return
                request = json.loads(_line(connection, _SEND_SECONDS, _REQUEST_BYTES_MAX))
                connection.settimeout(_SEND_SECONDS)
                connection.sendall(json.dumps(_answered(request, handle)).encode() + b"\n")

    @property
    def is_closed(self) -> bool:
        return self.fd == -1

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(OSError):  # somebody has removed it, or its directory
            self._path.unlink()


def ask_daemon(
    environ: Mapping[str, str], request: Request, *, within_seconds: float = ANSWER_SECONDS
) -> Answer | None:
    """Ask this user's daemon on this machine; see `ask`."""
    path = DaemonPaths.of(environ, socket.gethostname()).announced_socket()
    return ask(path, request, within_seconds=within_seconds)


def ask(path: Path, request: Request, *, within_seconds: float = ANSWER_SECONDS) -> Answer | None:
    """Send a request to the daemon, and return its answer; None if no daemon runs.

    Raises the error that the daemon answers with, or `ServiceFailed` if it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(within_seconds)
        try:
            with _short(path) as name:
                connection.connect(name)
            connection.sendall(json.dumps(dict(request)).encode() + b"\n")
            line = _line(connection, within_seconds, _ANSWER_BYTES_MAX)
        except (*REMOVED, ConnectionError):
            return None
        except OSError as error:
            raise _unanswered(error.strerror or "no answer in time") from error
    if not line:
        return None
    if not line.endswith(b"\n"):
        # The daemon ended meanwhile, or gave up because this process was stopped for too long.
        raise _unanswered("its answer was cut short")
    answer = json.loads(line)
    if isinstance(answer.get("error"), dict):
        raise error_from_json(answer["error"])
    assert isinstance(answer, dict)
    return answer


def require_unserved(path: Path) -> None:
    """Raise `Locked` if a daemon listens at `path`."""
    if _is_served(path):
        raise Locked(
            f"another daemon of this user listens at {path}",
            hint="stop it, or set another XDG_RUNTIME_DIR for this one, too",
        )


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SEND_SECONDS)
        try:
            with _short(path) as name:
                connection.connect(name)
        except (BlockingIOError, TimeoutError):
            return True  # one that is too busy to accept more
        except OSError:
            return False
    return True


def _unanswered(why: str) -> ServiceFailed:
    return ServiceFailed(
        f"the daemon does not answer: {why}",
        hint="check what it does: journalctl --user -u envsync, or -u envsync@USER",
    )


def _answered(request: Any, handle: Callable[[Request], Answer]) -> Answer:
    if not isinstance(request, dict):
        return {"error": NotFound("this is not a request").to_json()}
    try:
        return handle(request)
    except EnvsyncError as error:
        return {"error": error.to_json()}


def _line(connection: socket.socket, within_seconds: float, bytes_max: int) -> bytes:
    """Return one line, or less if the peer closes.

    Raises TimeoutError if it takes longer in total, ValueError if it is longer than `bytes_max`.
    """
    deadline = time.monotonic() + within_seconds
    received = b""
    while not received.endswith(b"\n"):
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("no whole line in time")
        connection.settimeout(left_seconds)
        block = connection.recv(_READ_BYTES)
        if not block:
            break
        received += block
        if len(received) > bytes_max:
            raise ValueError("too long")
    return received


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of the socket that fits into an address (108 bytes), however long `path` is."""
    directory = os.open(path.parent, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
