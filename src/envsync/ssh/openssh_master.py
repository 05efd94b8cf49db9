"""The system's `ssh` as a child process that holds one connection for many sessions."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from envsync.ssh import mux

_POLL_SECONDS = 0.01
_ANSWER_SECONDS = 5.0
_END_SECONDS = 2.0
_TAIL_LINES = 40
_LOG_BYTES = 64 << 10
# ssh appends 17 characters to the path of its socket while it creates it.
_DIRECTORY_BYTES_MAX = mux.PATH_BYTES_MAX - len("/envsync-12345678/control") - 17

# Runs ssh and ends it when this script's input is closed: by `close`, or by the kernel when this
# process dies, however that happens. The output is ssh's, and ends with it. The signal is repeated
# until ssh ends, because ssh misses one that arrives after it checked for signals and before it
# waits.
_SUPERVISOR = """\
directory=$1
shift
"$@" </dev/null 2>&1 &
ssh=$!
exec >/dev/null 2>&1
read -r _
while kill "$ssh"; do sleep 1; done &
teller=$!
wait "$ssh"
kill "$teller"
wait "$teller"
rm -rf -- "$directory"
"""


class MasterEnded(Exception):
    """ssh ended before the connection was established."""


class MasterSilent(Exception):
    """ssh neither ended nor connected in time."""


class Master:
    """A started ssh: use its `control_path` (see `mux`), and `close` it."""

    def __init__(
        self, argv: Callable[[Path], Sequence[str]], host: str, environ: Mapping[str, str]
    ) -> None:
        """Start ssh to `host`; `argv` returns the rest of its command line.

        `argv` is given the directory for the logs of the hops.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="envsync-", dir=_directory(environ)))
        self.control_path = self.directory / "control"
        self._printed: deque[str] = deque(maxlen=_TAIL_LINES)
        self._ended = threading.Event()
        path = str(self.control_path).replace("%", "%%")
        options = [*argv(self.directory), "-N", "-M", "-S", path, "-o", "ControlPersist=no"]
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "sh", str(self.directory), *options, "--", host],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=quiet(environ),
                # Without a terminal ssh cannot prompt, and Ctrl-C does not reach it: `close` ends
                # it.
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def await_connection(self, timeout_seconds: float) -> None:
        """Wait until the connection is established and the user logged in.

        Raises `MasterEnded`, or `MasterSilent` after `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.control_path.exists():
            if self._ended.wait(_POLL_SECONDS):
                raise MasterEnded
            if time.monotonic() > deadline:
                raise MasterSilent
        if not mux.is_alive(self.control_path, _ANSWER_SECONDS):
            raise MasterEnded

    @property
    def printed(self) -> list[str]:
        """The last lines that ssh, or its ProxyCommand, wrote to stderr."""
        if self._ended.is_set():
            self._listener.join(_END_SECONDS)
        return list(self._printed)

    def log(self, name: str) -> list[str]:
        """Return the lines that `ssh -v -E NAME` wrote about one hop, the first 64 KiB of them."""
        with contextlib.suppress(OSError), (self.directory / name).open("rb") as file:
            text = file.read(_LOG_BYTES).decode("utf-8", "replace")
            return [line.strip() for line in text.splitlines()]
        return []

    def last_words(self, name: str) -> str:
        """Return why the connection ended, as far as that hop's log says."""
        messages = [line for line in self.log(name) if not re.match(r"debug\d: ", line)]
        return messages[-1] if messages else "ssh ended"

    def close(self) -> None:
        """End ssh and everything that it started. May be called more than once."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._listener.join(_END_SECONDS)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            for line in pipe:
                self._printed.append(line.decode("utf-8", "replace").strip())
        self._ended.set()


def quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables with which ssh and its helpers never prompt."""
    others = {name: value for name, value in environ.items() if name != "SSH_ASKPASS"}
    return {**others, "SSH_ASKPASS_REQUIRE": "never"}


def _directory(environ: Mapping[str, str]) -> str:
    """Return a directory to make a private one in, with a path short enough for its sockets."""
    for directory in (environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if (
            directory
            and len(os.fsencode(directory)) <= _DIRECTORY_BYTES_MAX
            and os.access(directory, os.W_OK | os.X_OK)
        ):
            return directory
    return "/tmp"  # noqa: S108 - mkdtemp makes a private directory in it
