"""Formats counts, durations and times for people."""

from __future__ import annotations

import time
from datetime import datetime

from envsync.texts.sizes import size


def count(number: int, noun: str, plural: str = "") -> str:
    """Return `1 file` or `61,204 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def tally(done: int, of: int, failed: int) -> str:
    """Return `19 of 28 done` or `19 of 28 done, 2 failed`."""
    return f"{done} of {of} done" + (f", {failed} failed" if failed else "")


def contents(files: int, size_bytes: int) -> str:
    """Return `1,268 files, 65.7 MB`."""
    return f"{count(files, 'file')}, {size(size_bytes)}"


def in_use(processes: int) -> str:
    """Return what it means that as many processes use an environment that is switched."""
    users = count(processes, "process uses it", "processes use it")
    return f"{users}: files that are open do not change"


def tool_run(tool: str, attempt: int) -> str:
    """Return `conda 26.7.1`, or from the second try on, `conda 26.7.1, try 2`."""
    return f"{tool}, try {attempt}" if attempt > 1 else tool


def duration(seconds: float) -> str:
    """Return `0.8 s`, `4 min 10 s` or `2 h 5 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def rounded(seconds: float) -> str:
    """Return `41 s` or `4 min 10 s`."""
    return f"{seconds:.0f} s" if seconds < 99.5 else duration(seconds)


def offset(seconds: float) -> str:
    """Return `+0.2 s`, `-12.0 s` or `+0.0 s`; never `-0.0 s`."""
    return f"{round(seconds, 1) + 0.0:+.1f} s"


def age(when_seconds: float, now_seconds: float | None = None) -> str:
    """Return `just now`, `5 min`, `3 h` or `12 days`."""
    seconds = (time.time() if now_seconds is None else now_seconds) - when_seconds
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h"
    return f"{seconds // 86400:.0f} days"


def moment(when_seconds: float) -> str:
    """Return `2026-03-02 14:05:10`, in local time."""
    return datetime.fromtimestamp(when_seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
