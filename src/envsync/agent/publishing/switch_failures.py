"""Errors after a switch: they say what is done, and what completes the rest."""

from __future__ import annotations

import contextlib
from typing import Iterator, NamedTuple, Optional

from envsync.agent.server.disk_failures import disk_trouble, error_text
from envsync.errors import EnvsyncError, Hint, StorageFailed


class Unrecorded(NamedTuple):
    """A switch that is done and not on record, as text, and the command that completes it."""

    message: str
    command: str


PUBLISHED = Unrecorded("the new version is live, but could not be recorded", "push again")
ROLLED_BACK = Unrecorded(
    "the earlier version is live, but that could not be recorded", "run any command for it there"
)
REMOVED = Unrecorded(
    "it was removed there, but that could not be recorded", "run any command for it there"
)


def failure_after_switch(error: OSError, switch: Unrecorded) -> Optional[EnvsyncError]:
    """Return the error if a disk fails what follows a switch; None if something else does."""
    trouble = disk_trouble(error)
    if trouble is None:
        return None
    return trouble.failure(
        f"{switch.message}: {trouble.reason}", f"{switch.command} to complete it", error
    )


def failure_despite(error: OSError, switch: Unrecorded) -> EnvsyncError:
    """Return the error for a switch that the system reported as failed, although it was done."""
    reason = f"the filesystem there reported an error: {error_text(error)}"
    hint = Hint(f"{switch.command} to complete it")
    unknown = StorageFailed(f"{switch.message}: {reason}", hint=hint)
    return failure_after_switch(error, switch) or unknown


@contextlib.contextmanager
def unrecorded_guard(switch: Unrecorded) -> Iterator[None]:
    """Let the OSError of a disk within the block say that the switch is done."""
    try:
        yield
    except OSError as error:
        failure = failure_after_switch(error, switch)
        if failure is None:
            raise
        raise failure from error
