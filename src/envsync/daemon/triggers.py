"""When a source is pushed: once for each install, after everything has come to rest. Pure.

Seconds are of a clock that only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BUSY_POLL_SECONDS = 0.25
"""How often it is asked whether an installer that was seen has ended."""

UNFINISHED_POLL_SECONDS = 5.0
UNFINISHED_POLL_MAX_SECONDS = 60.0

PATIENCE_SECONDS = 600.0
"""A source that is touched all the time is checked after this long all the same."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A check of a source: who works on it (or nobody), and what is half done in it."""

    busy: str = ""
    unfinished: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activity:
    """What is going on in one source.

    `check_seconds` is when to check it next, None while nothing is going on; `since_seconds` is
    when it began.
    """

    check_seconds: float | None = None
    since_seconds: float | None = None
    busy: str = ""
    unfinished: tuple[str, ...] = ()
    unfinished_checks: int = 0
    hint_seconds: float = 0.0
    """The last hint while an installer was at work."""

    @property
    def is_at_rest(self) -> bool:
        return self.check_seconds is None

    def is_due(self, now: float) -> bool:
        return self.check_seconds is not None and now >= self.check_seconds


NO_ACTIVITY = Activity()


def changed(activity: Activity, now: float, settle_seconds: float) -> Activity:
    """After a hint that something changed."""
    since = now if activity.since_seconds is None else activity.since_seconds
    if activity.busy:
        # Its end is what counts, and is polled for.
        return replace(activity, since_seconds=since, hint_seconds=now)
    check = now + settle_seconds
    if activity.check_seconds is not None:
        check = max(activity.check_seconds, min(check, since + PATIENCE_SECONDS))
    if activity.unfinished:
        check = now + settle_seconds  # whatever came may have finished it
    return replace(activity, check_seconds=check, since_seconds=since, unfinished_checks=0)


def checked(
    activity: Activity, seen: Observation, now: float, settle_seconds: float
) -> tuple[Activity, bool]:
    """After a check; and whether the source is ready to be pushed."""
    if seen.busy:
        waiting = replace(activity, busy=seen.busy, check_seconds=now + BUSY_POLL_SECONDS)
        return waiting, False
    if activity.busy and settle_seconds > 0:
        # It has just ended: what it wrote last has to settle, too. It was there at the check
        # before this one.
        ended = min(now, (activity.check_seconds or now) - BUSY_POLL_SECONDS)
        check = max(now, max(ended, activity.hint_seconds) + settle_seconds)
        return replace(activity, busy="", check_seconds=check), False
    if seen.unfinished:
        pause = min(
            UNFINISHED_POLL_SECONDS * 2**activity.unfinished_checks, UNFINISHED_POLL_MAX_SECONDS
        )
        unfinished = Activity(
            check_seconds=now + pause,
            since_seconds=activity.since_seconds,
            unfinished=seen.unfinished,
            unfinished_checks=min(activity.unfinished_checks + 1, 10),
        )
        return unfinished, False
    return NO_ACTIVITY, True
