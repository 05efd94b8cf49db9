"""Sets of Linux namespaces, each held by a process that ends with the test process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, AnyStr, TypeVar

from tests.support.processes import ROUND_SECONDS_MAX, children, state_of, wait_until

T = TypeVar("T")

_INIT = Path(__file__).with_name("host_init.py")
_UNSHARE = ("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
_ALL = ("-m", "-u", "-i", "-n", "-p")
_KEEP = "--preserve-credentials"


class NsenterProcess(subprocess.Popen[AnyStr]):
    """An `nsenter` process, which is continued if it would stay suspended for ever.

    `nsenter` suspends itself when it finds its command suspended, until it is continued. If
    everything is stopped for a while and `nsenter` is continued before its command, it suspends
    itself once more, and then never notices that the command ended.
    """

    def poll(self) -> int | None:
        status = super().poll()
        if status is None:
            self._wake()
        return status

    def wait(self, timeout: float | None = None) -> int:
        return self._in_rounds(super().wait, timeout)

    def communicate(
        self,
        input: AnyStr | None = None,  # noqa: A002  (the name that Popen gives it)
        timeout: float | None = None,
    ) -> tuple[Any, Any]:
        given: list[Any] = [input]
        whole = super().communicate

        def once(seconds: float) -> tuple[Any, Any]:
            return whole(given.pop() if given else None, seconds)

        return self._in_rounds(once, timeout)

    def _in_rounds(self, once: Callable[[float], T], timeout: float | None) -> T:
        left_seconds = float("inf") if timeout is None else timeout
        while True:
            seconds = min(left_seconds, ROUND_SECONDS_MAX)
            try:
                return once(seconds)
            except subprocess.TimeoutExpired:
                left_seconds -= seconds
                if left_seconds <= 0:
                    raise
            self._wake()

    def _wake(self) -> None:
        if state_of(self.pid) == "T" and "T" not in map(state_of, children(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)


class EnteredProcess(NsenterProcess[bytes]):
    """A command in namespaces; signals go to the command itself, not to its `nsenter`."""

    def send_signal(self, sig: int) -> None:
        inner = self.inner_pid()
        if inner is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(inner, sig)

    def freeze(self) -> None:
        """Suspend the command; `nsenter` then suspends itself."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        super().send_signal(signal.SIGCONT)
        self.send_signal(signal.SIGCONT)

    def inner_pid(self) -> int | None:
        """Return the command's pid as seen here; None once it has ended."""
        found: list[int] = []

        def started_or_ended() -> bool:
            if self.poll() is None:
                found[:] = children(self.pid)
            return self.returncode is not None or bool(found)

        wait_until(started_or_ended, "nsenter has started its command")
        return found[0] if found and self.returncode is None else None


class Authority:
    """The right to make namespaces: root's, or that of a user in a user namespace.

    All hosts of a lab share one, or their links could not be connected.
    """

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []
        """The start of command lines that run with the right to set up a lab."""
        if os.geteuid() != 0:
            self._holder = subprocess.Popen(
                ["unshare", "--user", "--map-root-user", "sh", "-c", "echo ready; exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() != b"ready\n":
                raise RuntimeError("no user namespace, see stderr")
            self.prefix = ["nsenter", f"--target={self._holder.pid}", "-U", _KEEP, "--"]

    def close(self) -> None:
        if self._holder is not None:
            _end(self._holder)


class Namespaces:
    """Network, mount, UTS, IPC and PID namespaces of one host.

    An ordinary user's commands run in a further user namespace, in which the user has their own
    uid again, so that sshd knows that it is unprivileged.
    """

    def __init__(self, authority: Authority, hostname: str, etc: Mapping[str, str]) -> None:
        """`etc` are the contents, by name, with which existing files in /etc are replaced."""
        self._authority = authority
        self._holder = subprocess.Popen(
            [
                *(*authority.prefix, *_UNSHARE, "--mount-proc", "--"),
                *(sys.executable, "-I", "-S", str(_INIT)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._order = {
            "hostname": hostname,
            "etc": dict(etc),
            "user": [os.geteuid(), os.getegid()] if authority.prefix else None,
        }
        self.pid = 0

    def wait_ready(self) -> None:
        """Wait until the namespaces are set up.

        Separate from the constructor, so that several can start at the same time.
        """
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.write(json.dumps(self._order).encode() + b"\n")
        self._holder.stdin.flush()
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("the namespaces could not be set up, see stderr")
        [self.pid] = children(self._holder.pid)

    def set_up(self, *argv: str, input_text: str = "", only: Sequence[str] = _ALL) -> str:
        """Run a set-up command inside and return its output; RuntimeError if it fails.

        `only` are the namespaces to enter, as options of nsenter.
        """
        enter = [*self._authority.prefix, "nsenter", f"--target={self.pid}", *only, "--"]
        pipe = subprocess.PIPE
        with NsenterProcess(
            [*enter, *argv], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as process:
            out, err = process.communicate(input_text)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {err.strip()}")
        return str(out)

    def set_up_when_idle(self, *argv: str) -> None:
        """Run `set_up` until the kernel does not refuse it because a filesystem is busy.

        An agent can end a moment later than the command that it worked for.
        """

        def is_done() -> bool:
            try:
                self.set_up(*argv)
            except RuntimeError as error:
                if "busy" not in str(error):
                    raise
                return False
            return True

        wait_until(is_done, f"nobody is in the way of {' '.join(argv)}", timeout_seconds=20)

    def _enter(self, argv: Sequence[str | os.PathLike[str]], cwd: str) -> list[str]:
        user = ["-U", _KEEP] if self._authority.prefix else []
        enter = [*self._authority.prefix, "nsenter", f"--target={self.pid}", *_ALL, *user, "--"]
        return [*enter, "env", "-C", cwd, *(os.fspath(argument) for argument in argv)]

    def popen(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str],
        cwd: str = "/",
        **options: Any,
    ) -> EnteredProcess:
        return EnteredProcess(
            self._enter(argv, cwd), env=dict(env), start_new_session=True, **options
        )

    def path(self, path: str) -> Path:
        """Return the path at which the test process finds an absolute path of the host."""
        return Path(f"/proc/{self.pid}/root{path}")

    def pids(self) -> list[int]:
        """Return every process inside, PID 1 first, by its pid as seen here."""
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
        """Signal a process inside; AssertionError for any other process."""
        handle = os.pidfd_open(pid)
        try:
            identity = self._identity(pid)
            if identity is None:
                raise ProcessLookupError(f"process {pid} has just ended")
            if identity != self._identity(self.pid):
                raise AssertionError(f"process {pid} is not of this host")
            signal.pidfd_send_signal(handle, sig)
        finally:
            os.close(handle)

    def close(self) -> None:
        """End everything inside. Can be called more than once."""
        _end(self._holder)


def _end(holder: subprocess.Popen[bytes]) -> None:
    if holder.stdin is not None and not holder.stdin.closed:
        with contextlib.suppress(BrokenPipeError):
            holder.stdin.close()
    holder.wait(timeout=20)
    if holder.stdout is not None:
        holder.stdout.close()
