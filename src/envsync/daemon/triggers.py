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
"""A source that is touched all the time is looked at after this long all the same."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a source: who works on it (or nobody), and what is half done in it."""

    busy: str = ""
    unfinished: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activity:
    """What is going on in one source.

    `look_seconds` is when to look next, None while nothing is going on; `since_seconds` is
    when it began.
    """

    look_seconds: float | None = None
    since_seconds: float | None = None
    busy: str = ""
    unfinished: tuple[str, ...] = ()
    unfinished_looks: int = 0
    hint_seconds: float = 0.0
    """The last hint while an installer was at work."""

    @property
    def is_at_rest(self) -> bool:
        return self.look_seconds is None

    def is_due(self, now: float) -> bool:
        return self.look_seconds is not None and now >= self.look_seconds


AT_REST = Activity()


def changed(activity: Activity, now: float, settle_seconds: float) -> Activity:
    """After a hint that something changed."""
    since = now if activity.since_seconds is None else activity.since_seconds
    if activity.busy:
        # Its end is what counts, and is polled for.
        return replace(activity, since_seconds=since, hint_seconds=now)
    look = now + settle_seconds
    if activity.look_seconds is not None:
        look = max(activity.look_seconds, min(look, since + PATIENCE_SECONDS))
    if activity.unfinished:
        look = now + settle_seconds  # whatever came may have finished it
    return replace(activity, look_seconds=look, since_seconds=since, unfinished_looks=0)


def looked(
    activity: Activity, seen: Observation, now: float, settle_seconds: float
) -> tuple[Activity, bool]:
    """After a look; and whether the source is ready to be pushed."""
    if seen.busy:
        waiting = replace(activity, busy=seen.busy, look_seconds=now + BUSY_POLL_SECONDS)
        return waiting, False
    if activity.busy and settle_seconds > 0:
        # It has just ended: what it wrote last has to settle, too. It was there at the look
        # before this one.
        ended = min(now, (activity.look_seconds or now) - BUSY_POLL_SECONDS)
        look = max(now, max(ended, activity.hint_seconds) + settle_seconds)
        return replace(activity, busy="", look_seconds=look), False
    if seen.unfinished:
        pause = min(
            UNFINISHED_POLL_SECONDS * 2**activity.unfinished_looks, UNFINISHED_POLL_MAX_SECONDS
        )
        unfinished = Activity(
            look_seconds=now + pause,
            since_seconds=activity.since_seconds,
            unfinished=seen.unfinished,
            unfinished_looks=min(activity.unfinished_looks + 1, 10),
        )
        return unfinished, False
    return AT_REST, True
