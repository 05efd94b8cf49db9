"""Processes that use the environment on the target: they decide whether it may be replaced now."""

from __future__ import annotations

import time
from collections.abc import Sequence

from envsync.agent.wire.messages import ProcessUse
from envsync.errors import EnvironmentInUse
from envsync.push.ends.target_end import TargetEnd
from envsync.push.order.settings import PushSettings
from envsync.push.preflight.closer_look import DIFFERENCES_SHOWN

_POLL_SECONDS = 2.0


def await_unused(target: TargetEnd, settings: PushSettings) -> tuple[ProcessUse, ...]:
    """The processes that use it, as `in_use` decides about them: told, waited for, or refused.

    Raises `EnvironmentInUse` where they may not, or not for as long as they do.
    """
    deadline = time.monotonic() + settings.in_use_wait_seconds
    while True:
        processes = target.using()
        if not processes or settings.in_use == "publish":
            return processes
        require_unused(processes, settings, is_late=time.monotonic() > deadline)
        time.sleep(_POLL_SECONDS)


def require_unused(
    processes: Sequence[ProcessUse], settings: PushSettings, *, is_late: bool = False
) -> None:
    """Refuse, where `in_use: fail` says so, or nobody waits for them any longer."""
    if not processes or not (settings.in_use == "fail" or is_late):
        return
    count = len(processes)
    who = "a process uses" if count == 1 else f"{count} processes use"
    raise EnvironmentInUse(
        f"{who} the environment there",
        details=[f"{use.pid}  {use.command}" for use in processes[:DIFFERENCES_SHOWN]],
        hint="push again when they are done, or set `in_use: publish`: "
        "what they have open stays as it is",
    )
