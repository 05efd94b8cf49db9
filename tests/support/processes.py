"""Processes that a test watches, and conditions that it waits for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

ROUND_SECONDS_MAX = 1.0
"""What one round of a wait counts at most: this process may have been stopped for longer."""


def is_running(pid: int) -> bool:
    """Return whether a process runs; False for a zombie, as in a container without an init."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def wait_until(
    condition: Callable[[], object], what: str, *, timeout_seconds: float = 10.0
) -> None:
    """Poll until `condition()` is true; AssertionError with `what` if it is not in time.

    No round counts for more than a second: if this process is stopped for a while, so are those
    that it waits for, and they still get their time afterwards.
    """
    left_seconds = timeout_seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        if left_seconds <= 0:
            raise AssertionError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(0.005)
        left_seconds -= min(time.monotonic() - began, ROUND_SECONDS_MAX)


def wait_until_blocked(thread: threading.Thread) -> None:
    """Wait until a thread of this process sleeps, and nothing wakes it between five looks.

    That is in a system call, or for another thread's word: one that waits for the interpreter
    wakes all the time.
    """
    _wait_until_asleep(Path(f"/proc/self/task/{thread.native_id}/status"))


def wait_until_process_blocked(pid: int) -> None:
    """Wait until a process's main thread sleeps, as `wait_until_blocked` does."""
    _wait_until_asleep(Path(f"/proc/{pid}/status"))


def _wait_until_asleep(status: Path) -> None:
    looks: deque[list[str]] = deque(maxlen=5)

    def is_blocked() -> bool:
        try:
            lines = status.read_text().splitlines()
        except OSError:
            raise AssertionError("it has ended and did not wait") from None
        looks.append([line for line in lines if line.startswith(("State:", "voluntary_ctxt"))])
        return looks.count(looks[-1]) == 5 and "S (sleeping)" in looks[-1][0]

    wait_until(is_blocked, "it waits", timeout_seconds=30)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found


def state_of(pid: int) -> str:
    """Return a process's state as the letter in /proc; empty if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def wait_until_alone() -> None:
    """Wait for the threads of earlier tests to end, because with threads no helper is forked."""
    wait_until(lambda: threading.active_count() == 1, "only the main thread is there")
