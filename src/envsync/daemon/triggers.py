"""Decides when a source is pushed: once for each install, after everything has come to rest.

The functions are pure; seconds are monotonic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

BUSY_POLL_SECONDS = 0.25
"""The interval of checks whether an installer has ended."""

UNFINISHED_POLL_SECONDS = 5.0
UNFINISHED_POLL_MAX_SECONDS = 600.0

REFUSED_MAX_SECONDS = 300.0
"""The longest pause between two tries of a source that is refused every time."""

UNSETTLED_MAX_SECONDS = 600.0
"""A source that changes all the time is nevertheless checked after this long."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a check of a source."""

    busy: str = ""
    """The installer at work; empty if there is none."""
    unfinished: tuple[str, ...] = ()
    """A line for each thing that is half done."""
    is_there: bool = True
    """Whether the source exists."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What is going on in one source."""

    check_seconds: float = math.inf
    """The time of the next check; infinite while the source is at rest."""
    since_seconds: float = 0.0
    """When the activity began."""
    busy: str = ""
    """The installer that the last check saw; empty if there was none."""
    unfinished_checks: int = 0
    """How many checks since the last hint or installer have found something half done."""
    hint_seconds: float = 0.0
    """The time of the last hint while an installer was at work."""

    @property
    def is_at_rest(self) -> bool:
        return self.check_seconds == math.inf


NO_ACTIVITY = Activity()


def changed(activity: Activity, now: float, settle_seconds: float) -> Activity:
    """Return the activity after a hint that something changed."""
    if activity.busy:
        # Only the installer's end counts, and that is polled for.
        return replace(activity, hint_seconds=now)
    if activity.is_at_rest or activity.unfinished_checks:  # this may finish it
        return Activity(check_seconds=now + settle_seconds, since_seconds=now)
    settled = min(now + settle_seconds, activity.since_seconds + UNSETTLED_MAX_SECONDS)
    return replace(activity, check_seconds=max(activity.check_seconds, settled))


def checked(
    activity: Activity, observation: Observation, now: float, settle_seconds: float
) -> Activity:
    """Return the activity after a check; if it is at rest now, the source can be pushed."""
    if observation.busy:
        check = now + BUSY_POLL_SECONDS
        return replace(activity, check_seconds=check, busy=observation.busy, unfinished_checks=0)
    if activity.busy and settle_seconds > 0:
        # The installer has ended, after the check before this one; its last writes have to settle.
        ended = min(now, activity.check_seconds - BUSY_POLL_SECONDS)
        check = max(now, max(ended, activity.hint_seconds) + settle_seconds)
        return replace(activity, busy="", check_seconds=check)
    if observation.unfinished:
        pause = min(
            UNFINISHED_POLL_SECONDS * 2**activity.unfinished_checks, UNFINISHED_POLL_MAX_SECONDS
        )
        return Activity(
            check_seconds=now + pause,
            since_seconds=activity.since_seconds,
            unfinished_checks=min(activity.unfinished_checks + 1, 10),
        )
    return NO_ACTIVITY


def pause_after_refusal(earlier_refusals: int, settle_seconds: float) -> float:
    """Return the pause before a refused source is checked again; it doubles with each refusal."""
    doubled = 2.0 ** min(earlier_refusals, 10)  # bounded, or it overflows after some days
    return min(max(settle_seconds, 1.0) * doubled, REFUSED_MAX_SECONDS)
