"""A ProxyCommand as a socket.

paramiko has one of its own, which cannot tell how much a write took and leaves the
process behind; a socket pair gives the transport a real socket.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping


class ProxyCommandSocket:
    """What the command reads and writes, as a socket; closing it ends the command."""

    def __init__(self, command: str, environ: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        try:
            # As OpenSSH: the user's shell, replaced by the command.
            self._process = subprocess.Popen(
                [environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env=dict(environ),
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()

    def send(self, data: bytes) -> int:
        return self._socket.send(data)

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def close(self) -> None:
        self._socket.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
