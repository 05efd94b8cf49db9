"""The environment's own test, run on the target after the switch."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple


class CheckFailure(NamedTuple):
    """Why a check failed, and the end of its output.

    If the check could not be run at all, `is_verdict` is false: nothing is known about the version.
    """

    summary: str
    output: Tuple[str, ...]
    is_verdict: bool = True


def run_check(
    command: str, timeout_seconds: float, live: bytes, state: bytes
) -> Optional[CheckFailure]:
    """Run `sh -c command` as if the environment were activated; None if it succeeded.

    It runs in its own session without input, in a private directory that is removed afterwards, so
    that what it writes to its working directory is no change to the environment. Its process group
    is killed when it ends or the time is up. Raises nothing: whoever finishes an interrupted switch
    runs it again and must get past it. The push lock must be held: the private directory's name is
    made from `state`, so the next check removes what one left that was killed with its agent.
    """
    if not command:
        return None
    from envsync.agent.publishing.check_process import run  # loads much, and few pushes need it

    return run(command, timeout_seconds, live, state)
