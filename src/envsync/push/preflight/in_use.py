"""Decides whether an environment may be replaced while processes use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from envsync.agent.wire.messages import ProcessUse
from envsync.errors import EnvironmentInUse
from envsync.push.ends.target_end import TargetEnd
from envsync.push.request.settings import PushSettings

OnWait = Callable[[tuple[ProcessUse, ...], float], None]

_POLL_SECONDS = 2.0
_WAIT_SECONDS_MAX = 600.0
_PROCESSES_SHOWN = 12


def await_unused(
    target: TargetEnd, settings: PushSettings, on_wait: OnWait
) -> tuple[ProcessUse, ...]:
    """Return the processes that use the environment, after waiting or refusing as `in_use` says.

    A wait begins with a call of `on_wait`: the processes, and the most seconds to wait. Raises
    `EnvironmentInUse` if `in_use` forbids them, or if they still use it when the time is up.
    """
    deadline = time.monotonic() + _WAIT_SECONDS_MAX
    is_told = False
    while True:
        processes = target.using()
        if not processes or settings.in_use == "publish":
            return processes
        require_unused(processes, settings, is_late=time.monotonic() > deadline)
        if not is_told:
            on_wait(processes, _WAIT_SECONDS_MAX)
            is_told = True
        time.sleep(_POLL_SECONDS)


def require_unused(
    processes: Sequence[ProcessUse], settings: PushSettings, *, is_late: bool = False
) -> None:
    """Raise `EnvironmentInUse` if `in_use: fail` is set or the wait is over."""
    if not processes or not (settings.in_use == "fail" or is_late):
        return
    raise used_there(
        processes,
        "push again when they have ended, or set `in_use: publish`: "
        "files that they have open do not change",
    )


def used_there(processes: Sequence[ProcessUse], hint: str, then: str = "") -> EnvironmentInUse:
    """Return the error for processes in the way; `then` says what would become of them."""
    users = "a process uses" if len(processes) == 1 else f"{len(processes)} processes use"
    return EnvironmentInUse(
        f"{users} the environment there{then}",
        details=[f"{use.label}  {use.command}" for use in processes[:_PROCESSES_SHOWN]],
        hint=hint,
    )
