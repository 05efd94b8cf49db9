"""Faults: a process is hit after some time, or at a step at which the agent stops itself."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.torture import drift, victims
from bench.torture.script import MEDDLE, Fault
from tests.integration.push.places import environment, state
from tests.integration.push.planted import ORDER, STOPPED
from tests.lab.lab import LabHost

if TYPE_CHECKING:
    from tests.lab.namespaces import EnteredProcess

_POLL_SECONDS = 0.004
_LONG_POLL_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Hit:
    """The effect of a fault. `landed` is False if the command was over before.

    `live_inode` and `switching` describe the target right afterwards; `meddled` is the path of
    an added file.
    """

    victim: str
    landed: bool
    live_inode: int = 0
    switching: bool = False
    meddled: bytes = b""

    def __str__(self) -> str:
        return f"({self.victim} hit)" if self.landed else "(missed)"


class Faults:
    """Strikes one command at a time: call `prepare`, start the command, call `strike`."""

    def __init__(self, controller: LabHost, target: LabHost, launching: EnteredProcess) -> None:
        self._controller = controller
        self._target = target
        self._launching = launching

    def prepare(self, fault: Fault | None) -> None:
        """Tell the agent of the next command at which step to stop."""
        self._target.path(STOPPED).unlink(missing_ok=True)
        self._target.path(ORDER).unlink(missing_ok=True)
        if fault is not None and fault.moment:
            self._target.write_file(ORDER, fault.moment)

    def strike(
        self, fault: Fault, pid: int, usual_seconds: float, over: Callable[[], bool], number: int
    ) -> Hit:
        """Strike, unless the command is over first; a stopped agent is continued."""
        stopped = 0
        if fault.moment:
            stopped = self._await_stop(over)
            if not stopped:
                return Hit(fault.victim, landed=False)
        else:
            deadline = time.monotonic() + fault.part * usual_seconds
            while (left_seconds := deadline - time.monotonic()) > 0 and not over():
                time.sleep(min(left_seconds, _LONG_POLL_SECONDS))
        try:
            while not over():
                meddled = self._meddle(number) if (fault.victim == MEDDLE) else b""
                if meddled or self._kill(fault.victim, pid, stopped):
                    return self._hit(fault.victim, meddled)
                time.sleep(_POLL_SECONDS)
            return Hit(fault.victim, landed=False)
        finally:
            if stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stopped, signal.SIGCONT)

    def is_quiet(self) -> bool:
        """Return whether no agent and no session is left on the target."""
        left = victims.is_any_agent_left(self._target)
        return not left and not victims.sessions(self._target)

    def _hit(self, victim: str, meddled: bytes) -> Hit:
        live_inode = environment(self._target).lstat().st_ino
        switching = (state(self._target) / "intent.json").exists()
        return Hit(victim, True, live_inode, switching, meddled)

    def _meddle(self, number: int) -> bytes:
        return drift.add(environment(self._target), drift.DURING, number)

    def _await_stop(self, over: Callable[[], bool]) -> int:
        """Wait for the agent to stop itself; return its pid as seen here, 0 if it does not."""
        told = self._target.path(STOPPED)
        while not (told.exists() and told.read_text()):
            if over():
                return 0
            time.sleep(_POLL_SECONDS)
        on_host = int(told.read_text())
        for pid in victims.agents(self._target):
            if _number(self._target, pid) == on_host:
                return pid
        return 0

    def _kill(self, victim: str, pid: int, stopped: int) -> bool:
        """Kill a victim; return whether there was one."""
        if victim == "command":
            found = [p for p in self._commands() if _number(self._controller, p) == pid]
        elif victim == "agent":
            found = [stopped] if stopped else victims.agents(self._target)
        elif victim == "sshd":
            found = victims.sessions(self._target)
        elif victim == "rsync here":
            found = victims.rsyncs(self._controller, self._launching_pid())
        else:
            found = victims.rsyncs(self._target, self._target.sshd_pid())
        host = self._controller if victim in ("command", "rsync here") else self._target
        for each in found[-1:]:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                host.kill(each)
                return True
        return False

    def _commands(self) -> list[int]:
        return list(victims.descendants(self._launching_pid()))

    def _launching_pid(self) -> int:
        pid = self._launching.inner_pid()
        if pid is None:
            raise RuntimeError("the launcher is gone")
        return pid


def _number(host: LabHost, pid: int) -> int:
    """Return the pid that a process has on the host itself; 0 if it has ended."""
    try:
        return host.pid_on_host(pid)
    except OSError:
        return 0
