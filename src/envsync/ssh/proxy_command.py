"""A ProxyCommand as a socket.

paramiko's own cannot tell how much a write accepted, and leaves the process behind; a socket pair
gives the transport a real socket.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping

# How long the command may take to end once its input has ended, before it is told to.
_END_SECONDS = 0.2
_SHOWN_BYTES = 500


class ProxyCommandSocket:
    """A ProxyCommand's stdin and stdout as one socket; closing it ends the command.

    It also ends what the command started and left in its process group.
    After `close`, `last_words` is what it wrote last to its stderr.
    """

    def __init__(self, command: str, environ: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self.command = command
        self._socket = ours
        self.last_words = ""
        # 0 also for one that still ran when its input ended.
        self._exit_status = 0
        self._closing = threading.Lock()
        # A file needs no reader, however much the command writes, unlike a pipe.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # As in OpenSSH: the user's shell, replaced by the command.
            self._process = subprocess.Popen(
                [environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                # With no terminal and no askpass window, nobody is prompted.
                env={**environ, "SSH_ASKPASS_REQUIRE": "never"},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            self._stderr.close()
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
        """Return, after `close`, how the command failed, or None if it seems that it did not."""
        # A signal may be SIGPIPE, because our end was closed.
        if self._exit_status <= 0:
            return None
        return self.last_words or f"it ended with exit status {self._exit_status}"

    def close(self) -> None:
        self._socket.close()
        # paramiko's reader thread closes it, too.
        with self._closing:
            if not self._stderr.closed:
                self._collect()

    def _collect(self) -> None:
        try:
            # Most commands end with their input; their exit status says whether they failed.
            self._exit_status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._end()
        # What it started may not end with its input, either.
        self._signal_all(signal.SIGKILL)
        with self._stderr as stderr:
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _SHOWN_BYTES))
            self.last_words = stderr.read().decode("utf-8", "backslashreplace").strip()

    def _end(self) -> None:
        self._signal_all(signal.SIGTERM)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._signal_all(signal.SIGKILL)
            self._process.wait()

    def _signal_all(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
