"""Servers that behave as no sshd does: of plain sockets, or by paramiko."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port on which each connection is handed to `serve`."""
    open_sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    open_sockets.append(connection)
                    serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for sock in open_sockets:
        sock.close()


@contextlib.contextmanager
def paramiko_server(interface: paramiko.ServerInterface, home: Path) -> Iterator[int]:
    """A port where this answers, with its key in the known_hosts of `home`."""
    key = paramiko.ECDSAKey.generate()
    transports: list[paramiko.Transport] = []

    def serve(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transports.append(transport)
        transport.add_server_key(key)
        transport.start_server(server=interface, event=threading.Event())

    with server(serve) as port:
        line = f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n"
        (home / ".ssh" / "known_hosts").write_text(line)
        yield port
        for transport in transports:
            transport.close()


class Stalling(paramiko.ServerInterface):
    """A server that lets everybody in and stops answering at `step`."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.stall = threading.Event()

    def reach(self, step: str) -> None:
        if step == self.step:
            self.stall.wait(30)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_none(self, username: str) -> int:
        self.reach("authentication")
        return AUTH_FAILED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.reach("authentication")
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self.reach("channel")
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.reach("exec")
        return True

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self.reach("subsystem")
        return name == "sftp"


@contextlib.contextmanager
def stalling_server(step: str, home: Path) -> Iterator[int]:
    stalling = Stalling(step)
    with paramiko_server(stalling, home) as port:
        yield port
        stalling.stall.set()
