"""Worker processes, which scan and push, so that the daemon itself stays small.

A worker writes one JSON document on each line of its stdout. It ends when it is told to, or at
the end of its stdin, so that a killed daemon leaves no worker behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

END_SECONDS = 4.0
"""How long a worker may run on after it closed its stdout; the daemon, which has to end within
10 s, waits for it."""

KILL_SECONDS = 1.5
"""How long to wait for a worker that was killed."""

LINE_BYTES_MAX = 8 << 20
_READ_BYTES = 1 << 16
_STDERR_LINES = 5

_NOT_FOR_WORKERS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM")


class WorkerProcess:
    """A running worker. When `fd` is readable, call `read`."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_finish`
        inherited = {name: v for name, v in environ.items() if name not in _NOT_FOR_WORKERS}
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=inherited,
            cwd="/",
            start_new_session=True,  # to signal it together with its own children
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._pending = b""
        self.is_over = False
        self.stderr_tail = ""
        """The last lines of its stderr; known once `is_over`."""

    @property
    def fd(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    def read(self) -> list[dict[str, Any]]:
        """Return the documents written since the last call; sets `is_over` after the last one."""
        documents: list[dict[str, Any]] = []
        while True:
            try:
                block = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return documents
            if not block:
                self._finish()
                return documents
            *lines, self._pending = (self._pending + block).split(b"\n")
            documents += [document for document in map(_parsed, lines) if document is not None]
            if len(self._pending) > LINE_BYTES_MAX:
                self.kill()

    def send(self, line: bytes) -> None:
        """Write a short line to its stdin; if the process is gone, `read` will notice."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            os.write(self._process.stdin.fileno(), line + b"\n")

    def terminate(self) -> None:
        """Tell it to end, with all its children."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _finish(self) -> None:
        """Wait for the process after it closed its stdout; kill it after `END_SECONDS`."""
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        # Kill children that it did not wait for (an rsync, an ssh), which would go on alone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.is_over = True
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), _READ_BYTES, max(0, size - _READ_BYTES))
        lines = tail.decode("utf-8", "replace").splitlines()[-_STDERR_LINES:]
        self.stderr_tail = "\n".join(lines)
        self._stderr.close()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def wait(self, deadline: float) -> None:
        """Wait for its end until the monotonic `deadline`, then kill it; drops what it writes.

        A process that waits in the kernel for a lost network filesystem cannot be killed, and is
        left behind after `KILL_SECONDS`.
        """
        while self._process.poll() is None:
            late = time.monotonic() - deadline
            if late > KILL_SECONDS:
                return
            if late > 0:
                self.kill()
            with contextlib.suppress(OSError):
                self.read()
            time.sleep(0.02)
        if not self.is_over:
            self._finish()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the document on a line; None for anything else, such as a library's output."""
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
