"""The start of a session, up to the agent's first frame: skips what login files print."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from envsync.agent.operations import bootstrap, bundle
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError
from envsync.ssh.manual_commands import ssh_command
from envsync.ssh.session import Link, Session

NOISE_BYTES_MAX = 64 << 10
"""How much a server's login files may print before the agent's first byte."""

START_SECONDS = 120.0
"""How long login files and the start of Python on a slow disk may take together, if they print
something now and then. Silent, they may take `Timeouts.silence_seconds`."""

# The exit statuses of a forced command that succeeds, of nologin, and of a shell for git only.
_LOGIN_STATUS = (0, 1, 128)
# Of a Python that is too old (an option that 2.7 does not know: 2), cannot load its own files or
# libraries, or cannot be executed; a login file that exits may have the same.
_PYTHON_STATUS = (bootstrap.EXIT_OLD_PYTHON, 1, 2, 126, 127)
_SIGNALLED_TEXT = "a signal ended it"
SIGNALLED = 128  # and the signal's number, from a shell; sshd itself reports no status
LINES_SHOWN = 8
LINE_CHARACTERS = 200
_READ_BYTES = 4096
# Starts the Python of the line that it reads. Its shell waits, and so tells which signal ended it.
_START_PYTHON = (
    "exec /bin/sh -c '"
    'IFS= read -r python; env -i PATH="$PATH" "$python" -S -I -B -c ""; exit $?'
    "'"
)  # fmt: skip
# Shows whether a link is alive: the server grants it before any login file runs.
_NOTHING = "exec /bin/sh -c 'exit 0'"


class Started(NamedTuple):
    """An agent's session, and what login files printed before its first byte.

    `python_failure` says why `python3` serves in place of the prefix's Python; empty if that
    serves, or is not there.
    """

    session: Session
    noise: bytes
    python_failure: str = ""


def start_agent(link: Link, prefix: str, command: str) -> Started:
    """Start an agent.

    It runs in the prefix's Python or, where that does not start, in the server's own `python3`. If
    neither starts, the error is about the prefix's.
    """
    start = AgentStart(link, link.run(command), prefix)
    try:
        return Started(start.session, start.begin(f"{prefix}/bin/python"))
    except EnvsyncError:
        if start.python_failure:
            with contextlib.suppress(EnvsyncError):
                other = AgentStart(link, link.run(command), prefix)
                return Started(other.session, other.begin(""), start.python_failure)
        start.require_no_signal()
        raise


class AgentStart:
    """Reads what comes before the first frame; limited in bytes and in time.

    `python_failure` says why, unless something else did, the Python asked for may have ended.
    """

    def __init__(self, link: Link, session: Session, prefix: str) -> None:
        self.session = session
        self.python_failure = ""
        self._link = link
        self._prefix = prefix
        self._server = link.server
        self._is_greeted = self._has_ended = False
        self._began = time.monotonic()

    def begin(self, python: str) -> bytes:
        """Give the agent its modules, and return what login files print; end it if that fails.

        `python` is the preferred interpreter; if it is not there, or empty, `python3` serves.
        """
        try:
            token = "envsync-" + secrets.token_hex(16)
            self.session.write(bootstrap.preamble(python, token))
            bundle.modules(bundle.OUR_MAGIC)  # while the interpreter there starts
            noise, magic = self._greeting(token.encode())
            self._is_greeted = True
            self.session.write(bundle.modules(magic))
        except ConnectionLost as error:
            raise self._explained(error) from error
        except BaseException:
            self.session.close()
            raise
        return noise

    def require_no_signal(self) -> None:
        """Raise the error that names the signal that ends the prefix's Python, if one does.

        An agent's own end by a signal does not tell which: its session has no status then.
        """
        if self.python_failure != _SIGNALLED_TEXT:
            return
        from envsync.push.ends.agent_end import STATUS_SECONDS

        python = f"{self._prefix}/bin/python"
        name = ""
        with contextlib.suppress(EnvsyncError, ValueError):
            session = self._link.run(_START_PYTHON)
            with contextlib.closing(session):
                session.write(os.fsencode(python) + b"\n")
                status = session.exit_status(STATUS_SECONDS) or 0
            name = signal.Signals(status - SIGNALLED).name
        if name:
            raise self._does_not_start(f"{name} ends it", "`sudo dmesg` there may say why; ")

    def _does_not_start(
        self, why: str, first: str = "", details: Sequence[str] = ()
    ) -> AgentFailed:
        """Return the error of a prefix's Python that does not start."""
        by_hand = ssh_command(self._link.reached)
        python = shlex.quote(f"{self._prefix}/bin/python")
        return AgentFailed(
            f"the prefix's Python does not start: {why}",
            hint=f"{first}install Python 3.8 or newer there, or replace the conda base, until this "
            f"works: {by_hand} {shlex.quote(f'{python} --version')}",
            server=self._server,
            details=details,
        )

    def _greeting(self, token: bytes) -> tuple[bytes, bytes]:
        """Return what login files print, and the interpreter's magic, which follows the token.

        The agent sends no more before it has its modules.
        """
        mark = b"\n" + token + b"\n"
        seen = magic = b""
        while len(magic) < bootstrap.MAGIC_LINE_BYTES:
            seen += self._read(seen)
            noise, _, magic = seen.partition(mark)
            if len(seen) - len(magic) > NOISE_BYTES_MAX + len(mark):
                raise AgentFailed(
                    f"its login files print more than {NOISE_BYTES_MAX >> 10} KiB",
                    hint="make them (such as ~/.bashrc) print only on a terminal",
                    server=self._server,
                )
        if len(magic) > bootstrap.MAGIC_LINE_BYTES:
            raise AgentFailed(
                "something else prints there while the agent starts",
                hint="let login files (such as ~/.bashrc) start no program that goes on printing",
                server=self._server,
            )
        return noise, magic.strip()

    def _read(self, seen: bytes) -> bytes:
        self._require_time()
        try:
            part = self.session.read(_READ_BYTES)
        except ConnectionLost:
            if self._is_link_alive():
                raise self._too_slow() from None
            raise
        if not part:
            self._has_ended = True
            raise ConnectionLost(
                "the agent did not start", server=self._server, details=_lines(seen)
            )
        return part

    def _require_time(self) -> None:
        if time.monotonic() > self._began + START_SECONDS:
            raise self._too_slow()

    def _too_slow(self) -> AgentFailed:
        return AgentFailed(
            f"the agent did not start within {time.monotonic() - self._began:.0f} s",
            hint="log in there and check what takes so long",
            server=self._server,
        )

    def _is_link_alive(self) -> bool:
        """Return whether the server still grants sessions: a silent one can also be cut off."""
        try:
            self._link.run(_NOTHING).close()
        except EnvsyncError:
            return False
        return True

    def _explained(self, error: ConnectionLost) -> EnvsyncError:
        """Return the reason why the agent did not start, judged by its command's exit status."""
        from envsync.push.ends.agent_end import STATUS_SECONDS, known_cause

        status = self.session.exit_status(STATUS_SECONDS)
        stderr = self.session.stderr_tail().strip()
        stdout = b"" if status is None else self._unread_stdout()
        details = [*error.details, *_lines(stdout), *stderr.splitlines()][-LINES_SHOWN:]
        self.session.close()
        self.python_failure = self._python_failure(status, stderr)
        if status == bootstrap.EXIT_NO_PYTHON:
            return AgentFailed(
                "there is no Python: neither in the prefix nor `python3` on the PATH",
                hint="install conda at the prefix there, or Python 3.8 or newer",
                server=self._server,
                details=details,
            )
        if status == bootstrap.EXIT_OLD_PYTHON:
            return AgentFailed(
                "its Python is too old: 3.8 or newer is needed",
                hint="update the conda base there, or install Python 3.8 or newer as `python3`",
                server=self._server,
                details=details,
            )
        if status is None:
            error.server = self._server
            return error
        python = f"{self._prefix}/bin/python"
        # What cannot start it names it: the loader, `env`, or Python itself.
        if self.python_failure and python in stderr:
            last = stderr.splitlines()[-1][:LINE_CHARACTERS]
            return self._does_not_start(last, details=details)
        known = known_cause(stderr, details)
        if known is not None:
            known.server = self._server
            return known
        if status in _LOGIN_STATUS and "Traceback" not in stderr:
            return AgentFailed(
                "it runs something else instead of the command that it was sent",
                hint="look for an exit in the login files there (such as ~/.bashrc), command= in "
                "authorized_keys, ForceCommand in its sshd_config, and a login shell such as "
                "nologin",
                server=self._server,
                details=details,
            )
        return AgentFailed(
            f"the agent did not start (exit status {status})",
            hint=None if "Traceback" in stderr else self._by_hand(),
            server=self._server,
            details=details,
        )

    def _python_failure(self, status: int | None, stderr: str) -> str:
        if self._is_greeted:
            return ""
        if status == bootstrap.EXIT_OLD_PYTHON:
            return "it is older than 3.8"
        if status in _PYTHON_STATUS:
            return stderr.rpartition("\n")[2][:LINE_CHARACTERS] or f"exit status {status}"
        # A link that was cut has left no status, either; but there the command has not ended.
        is_signal = self._has_ended and (status is None or status > SIGNALLED)
        return _SIGNALLED_TEXT if is_signal else ""

    def _by_hand(self) -> str:
        """Return the hint with a command that starts the same Python in the same way."""
        command = f'exec env PATH={shlex.quote(self._prefix)}/bin:"$PATH" python3 --version'
        return (
            "check the login files (such as ~/.bashrc), Python, the PATH and any ForceCommand "
            "there until this works: "
            f"{ssh_command(self._link.reached)} {shlex.quote(command)}"
        )

    def _unread_stdout(self) -> bytes:
        """Return what a command that is not the agent printed since."""
        stdout = b""
        with contextlib.suppress(ConnectionLost, AgentFailed):
            while len(stdout) < NOISE_BYTES_MAX and (part := self.session.read(_READ_BYTES)):
                stdout += part
                self._require_time()
        return stdout


def _lines(printed: bytes) -> list[str]:
    lines = printed.decode("utf-8", "replace").splitlines()
    return [line[:LINE_CHARACTERS] for line in lines if line.strip()][-LINES_SHOWN:]
