"""A throwaway SSH server: paramiko's server side in its own process, on loopback only.

    python -m envsync.cli.demo.server < order

It reads one line of JSON (`Order`) and writes one: the port and the host key's known_hosts line.
It lets in one user with one key, runs commands with /bin/sh, and ends with
everything it started when its stdin does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)
from paramiko.ssh_exception import SSHException

from envsync.agent.wire.frames import write_all

USER = "demo"
_PATH = "/usr/local/bin:/usr/bin:/bin"
_BLOCK_BYTES = 256 << 10
_WINDOW_BYTES = 16 << 20
_REKEY_BYTES = 2**36
# An agent about to switch a version finishes first, even when its link is gone.
_GRACE_SECONDS = 10.0
_GONE = (OSError, EOFError, SSHException)


@dataclass(frozen=True, slots=True)
class Order:
    """The demo's order for a server."""

    name: str
    home: str
    client_key: str


def make_key(path: Path) -> str:
    """Write a new private key, readable by its owner only; return its public line."""
    key = paramiko.ECDSAKey.generate(bits=256)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        key.write_private_key(file)
    return f"{key.get_name()} {key.get_base64()}"


def main() -> int:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = Order(**json.loads(sys.stdin.readline()))
    server = DemoServer(order)
    _tell({"port": server.port, "host_key": server.host_key_line})
    threading.Thread(target=server.serve, daemon=True).start()
    sys.stdin.read()
    server.close()
    return 0


def _tell(document: dict[str, Any]) -> None:
    # The pipe is closed if another server has ended the demo already.
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(document).encode() + b"\n")


class DemoServer:
    """A server that listens on an ephemeral port of 127.0.0.1 from construction on."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._host_key = paramiko.ECDSAKey.generate(bits=256)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._asking = threading.Lock()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def host_key_line(self) -> str:
        key = self._host_key
        return f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}"

    def serve(self) -> None:
        """Accept connections until `close`."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection, default_window_size=_WINDOW_BYTES)
            transport.packetizer.REKEY_BYTES = _REKEY_BYTES
            transport.add_server_key(self._host_key)
            # Given an event, start_server does not wait for the handshake.
            transport.start_server(threading.Event(), _Gate(self._order.client_key, self._start))
            self._transports.append(transport)

    def close(self) -> None:
        """Stop listening, disconnect, and end every process that was started."""
        self._listener.close()
        for transport in self._transports:
            transport.close()
        with self._lock:
            processes = list(self._processes)
        for process in processes:
            _kill_group(process)

    def _start(self, channel: paramiko.Channel, command: bytes) -> None:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        try:
            # paramiko grants the command after `_start` has returned. The client answers this
            # request only after that; without it, a quick command could end before it was granted.
            with self._asking:
                channel.get_transport().global_request("envsync-demo", wait=True)
        except _GONE:
            return
        with subprocess.Popen(
            [b"/bin/sh", b"-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=self._order.home,
            env={"HOME": self._order.home, "USER": USER, "LOGNAME": USER, "PATH": _PATH},
            start_new_session=True,
        ) as process:
            with self._lock:
                self._processes.add(process)
            feeder = _connect(channel, process)
            status = process.wait()
            with self._lock:
                self._processes.discard(process)
            with contextlib.suppress(*_GONE):
                channel.send_exit_status(status if status >= 0 else 128 - status)
                channel.close()
            # The feeder may be about to write to the pipe that is now closed.
            feeder.join()


class _Gate(paramiko.ServerInterface):
    """Admits one user with one key, for commands only."""

    def __init__(self, client_key: str, start: Callable[[paramiko.Channel, bytes], None]) -> None:
        self._client_key = client_key
        self._start = start

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002 - for any user
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Accept the client's key; paramiko checks the signature."""
        if username == USER and f"{key.get_name()} {key.get_base64()}" == self._client_key:
            return AUTH_SUCCESSFUL
        return AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        if kind == "session":
            return OPEN_SUCCEEDED
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._start(channel, command)
        return True


def _connect(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> threading.Thread:
    """Connect the three streams until the command closes its stdout and stderr.

    The returned thread feeds the command's stdin until the channel is closed.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    feeder = threading.Thread(target=_feed, args=(channel, process), daemon=True)
    feeder.start()
    errors = threading.Thread(
        target=_drain, args=(process.stderr.fileno(), channel.sendall_stderr), daemon=True
    )
    errors.start()
    _drain(process.stdout.fileno(), channel.sendall)
    errors.join()
    return feeder


def _feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
    """Copy the channel's data to the command, and end the command once the link is gone."""
    assert process.stdin is not None
    with contextlib.suppress(*_GONE):
        while data := channel.recv(_BLOCK_BYTES):
            with contextlib.suppress(BrokenPipeError):
                write_all(process.stdin.fileno(), data)
    with contextlib.suppress(OSError):
        process.stdin.close()
    if channel.closed:
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(process)


def _drain(fd: int, send: Callable[[bytes], object]) -> None:
    gone = False
    while data := os.read(fd, _BLOCK_BYTES):
        # Reading goes on after the link is gone, so that the command does not block in a write.
        if not gone:
            try:
                send(data)
            except _GONE:
                gone = True


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    # `os._exit` does not wait for threads whose links are gone.
    os._exit(main())
