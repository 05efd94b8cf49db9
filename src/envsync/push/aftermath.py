"""What became of a switch whose answer was lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from envsync.agent.messages import RecordFacts
from envsync.errors import CheckFailed, ConnectionLost, EnvsyncError
from envsync.push.target_end import TargetEnd

PATIENCE_SECONDS = 90.0
"""On top of the check's own time: how long a server may need to be reached again, and the
agent there to notice the silence, if it has not finished before."""

_RETRY_SECONDS = 2.0

Reopen = Callable[[], AbstractContextManager[TargetEnd]]


def record_after_loss(
    lost: ConnectionLost, reopen: Reopen, source_revision: str, check_timeout_seconds: float
) -> RecordFacts:
    """The record that the target has, where the switch happened although its answer was lost.

    Connects again and takes the lock, so that the agent of before has ended and what it
    may have left half-done is recovered. Raises `lost` where the version before stands
    there or the server cannot be asked in time, `CheckFailed` where that took it back.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS + check_timeout_seconds
    while time.monotonic() < deadline:
        try:
            with reopen() as target:
                record = target.inspect(lock=True).record
        except CheckFailed:
            raise
        except EnvsyncError:
            # Not reachable yet, or the agent of before still has the lock.
            time.sleep(_RETRY_SECONDS)
            continue
        if record is not None and record.source_revision == source_revision:
            return record
        lost.hint = "the version before stands there; run the same command again"
        raise lost
    lost.hint = "it is not known which version stands there; run the same command again"
    raise lost
