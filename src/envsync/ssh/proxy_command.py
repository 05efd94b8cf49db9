"""A ProxyCommand as a socket.

paramiko has one of its own, which cannot tell how much a write took and leaves the
process behind; a socket pair gives the transport a real socket.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping

# After its output has ended, how long it may take to end itself.
_END_SECONDS = 1.0
_SAID_BYTES = 500


class ProxyCommandSocket:
    """What the command reads and writes, as a socket; closing it ends the command."""

    def __init__(self, command: str, environ: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self.command = command
        self._socket = ours
        # A file, and no pipe: nobody has to read it, however much it says.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # As OpenSSH: the user's shell, replaced by the command.
            self._process = subprocess.Popen(
                [environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                # No terminal, and no window either: nobody is asked for anything.
                env={**environ, "SSH_ASKPASS_REQUIRE": "never"},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            self._said.close()
            raise
        finally:
            theirs.close()

    def send(self, data: bytes) -> int:
        return self._socket.send(data)

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def failure(self) -> str | None:
        """What it said last, where it has ended by itself; None where it runs on."""
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _SAID_BYTES))
        said = self._said.read().decode("utf-8", "backslashreplace").strip()
        return said or f"it ended with exit status {status}"

    def close(self) -> None:
        self._socket.close()
        self._said.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
