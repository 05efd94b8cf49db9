"""Decides whether an environment may be replaced while processes use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from envsync.agent.wire.messages import UNSEEN, ProcessUse, TargetState
from envsync.errors import EnvironmentInUse, Hint, PreflightRefused
from envsync.push.ends.target_end import TargetEnd
from envsync.push.request.settings import PushSettings

Waiting = Callable[[tuple[ProcessUse, ...], float], AbstractContextManager[None]]
"""Shows, until the block ends, for which processes a push waits, and for how many seconds at most.
"""

_POLL_SECONDS = 2.0
_WAIT_SECONDS_MAX = 600.0
_PROCESSES_SHOWN = 12


def await_unused(
    target: TargetEnd, settings: PushSettings, waiting: Waiting
) -> tuple[ProcessUse, ...]:
    """Return the processes that use the environment, after waiting or refusing as `in_use` says.

    Raises `EnvironmentInUse` if `in_use` forbids them, or if they still use it when the time is up.
    """
    processes = target.using()
    if not processes or settings.in_use == "publish":
        return processes
    require_unused(processes, settings)
    deadline = time.monotonic() + _WAIT_SECONDS_MAX
    with waiting(processes, _WAIT_SECONDS_MAX):
        while processes:
            time.sleep(_POLL_SECONDS)
            processes = target.using()
            require_unused(processes, settings, is_late=time.monotonic() > deadline)
    return processes


def require_unused(
    processes: Sequence[ProcessUse], settings: PushSettings, *, is_late: bool = False
) -> None:
    """Raise `EnvironmentInUse` if `in_use: fail` is set or the wait is over."""
    if not processes or not (settings.in_use == "fail" or is_late):
        return
    raise used_there(
        processes,
        Hint(
            "[[push again when nothing uses it, or ]]set `in_use: publish`: "
            "open files do not change"
        ),
    )


def require_visible(target: TargetState, settings: PushSettings) -> None:
    """Refuse where nobody can see what uses the environment, unless `in_use: publish` is set."""
    if settings.in_use != "publish":
        refuse_unseen(target, "set `in_use: publish`")


def refuse_unseen(target: TargetState, insist: str) -> None:
    """Raise `PreflightRefused` if processes that use the environment there cannot be seen."""
    if any(finding.kind == UNSEEN for finding in target.findings):
        raise PreflightRefused(
            "whether a process uses the environment there is unknown: it has no readable /proc",
            hint=f"mount it there: `sudo mount -t proc proc /proc`; or {insist}",
        )


def used_there(
    processes: Sequence[ProcessUse], hint: str | Hint, then: str = ""
) -> EnvironmentInUse:
    """Return the error for processes in the way; `then` says what would become of them."""
    users = "a process uses" if len(processes) == 1 else f"{len(processes)} processes use"
    return EnvironmentInUse(
        f"{users} the environment there{then}",
        details=[f"{use.label}  {use.command}" for use in processes[:_PROCESSES_SHOWN]],
        hint=hint,
    )
