"""A set of Linux namespaces, held by a process that ends with us."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_INIT = Path(__file__).with_name("host_init.py")
_UNSHARE = ("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")


def wait_until(
    condition: Callable[[], object], what: str, *, timeout_seconds: float = 10.0
) -> None:
    """Poll until `condition()` is true; AssertionError saying `what` where it never is."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """The children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found


class EnteredProcess(subprocess.Popen[bytes]):
    """A command inside; signals go to the command itself, not to the `nsenter` before it."""

    def send_signal(self, sig: int) -> None:
        inner = self.inner_pid()
        if inner is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(inner, sig)

    def inner_pid(self) -> int | None:
        """The command's pid as seen from here; None once it has ended."""
        found: list[int] = []

        def started_or_ended() -> bool:
            if self.poll() is None:
                found[:] = children(self.pid)
            return self.returncode is not None or bool(found)

        wait_until(started_or_ended, "nsenter has started its command")
        return found[0] if found and self.returncode is None else None


class Namespaces:
    """Network, mount, UTS, IPC and PID namespaces of one host."""

    def __init__(self, hostname: str, files: Mapping[str, str]) -> None:
        """`files` are contents that stand at those (existing) paths inside."""
        self._holder = subprocess.Popen(
            [*_UNSHARE, "--mount-proc", "--", sys.executable, "-I", "-S", str(_INIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._order = json.dumps({"hostname": hostname, "files": dict(files)}).encode() + b"\n"
        self.pid = 0

    def wait_ready(self) -> None:
        """Apart from the constructor, so that several can start at the same time."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.write(self._order)
        self._holder.stdin.flush()
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("the namespaces could not be set up, see stderr")
        [self.pid] = children(self._holder.pid)

    def enter(self, argv: Sequence[str | os.PathLike[str]], *, cwd: str = "/") -> list[str]:
        """The command line that runs `argv` inside."""
        inside = ["nsenter", f"--target={self.pid}", "-m", "-u", "-i", "-n", "-p", "--"]
        return [*inside, "env", "-C", cwd, *(os.fspath(argument) for argument in argv)]

    def popen(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str],
        cwd: str = "/",
        **options: Any,
    ) -> EnteredProcess:
        return EnteredProcess(
            self.enter(argv, cwd=cwd), env=dict(env), start_new_session=True, **options
        )

    def call(self, *argv: str, input_text: str = "") -> str:
        """Run a set-up command inside; RuntimeError with its stderr where it fails."""
        done = subprocess.run(
            self.enter(argv), input=input_text, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    def path(self, path: str) -> Path:
        """Where the test process itself finds an absolute path of the host."""
        return Path(f"/proc/{self.pid}/root{path}")

    def pids(self) -> list[int]:
        """Every process inside, PID 1 first, numbered as seen from here."""
        identity = self._identity(self.pid)
        numbers = sorted(int(e.name) for e in Path("/proc").iterdir() if e.name.isdigit())
        inside = [pid for pid in numbers if pid != self.pid and self._identity(pid) == identity]
        return [self.pid, *inside]

    @staticmethod
    def _identity(pid: int) -> str | None:
        try:
            return str(Path(f"/proc/{pid}/ns/pid").readlink())
        except OSError:
            return None

    def kill(self, pid: int, sig: int = signal.SIGKILL) -> None:
        """Signal a process inside; one that is not inside is refused."""
        handle = os.pidfd_open(pid)
        try:
            if self._identity(pid) != self._identity(self.pid):
                raise AssertionError(f"process {pid} is not of this host")
            signal.pidfd_send_signal(handle, sig)
        finally:
            os.close(handle)

    def close(self) -> None:
        """End everything inside. May be called more than once."""
        if self._holder.stdin is not None and not self._holder.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._holder.stdin.close()
        self._holder.wait(timeout=20)
        if self._holder.stdout is not None:
            self._holder.stdout.close()
