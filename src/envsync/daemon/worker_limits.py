"""The limits for workers: how many there may be, and how long each may take.

The functions are pure; seconds are monotonic.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection

from envsync.daemon.worker import Worker

PUSHING_MAX = 4
"""The most workers that push at a time, without those that wait for a slow server; also the most
that push to one server."""

WORKERS_MAX = 16
"""The most workers, with those that wait for a slow server."""

SLOW_SECONDS = 180.0
"""A worker silent for this long waits for a slow or silent server, and does not count against
`PUSHING_MAX` any more; or it scans a source on a disk that hangs, and other sources can be scanned
by another."""

STANDBY_MAX_SECONDS = 60.0
"""How long a worker waits to be started; a longer wait means that the source keeps changing."""

SILENCE_MAX_SECONDS = 86400.0
"""A worker silent for this long is killed: what it waits for does not end by itself (a disk that
is gone, a stopped process), and no other worker can take its place."""

END_MAX_SECONDS = 10.0
"""A worker that still runs this long after it was told to end is killed."""


def has_room(workers: Collection[Worker], now: float) -> bool:
    """Return whether one more worker can push."""
    return len(workers) < WORKERS_MAX and len(_occupying(workers, now)) < PUSHING_MAX


def room_seconds(workers: Collection[Worker], now: float) -> float:
    """Return when there can be room although no worker ends; infinite if there is now."""
    if has_room(workers, now):
        return math.inf
    heard_seconds = [worker.heard_seconds for worker in _occupying(workers, now)]
    return min(heard_seconds, default=math.inf) + SLOW_SECONDS


def _occupying(workers: Collection[Worker], now: float) -> list[Worker]:
    return [worker for worker in _responsive(workers, now) if not worker.task.is_scan]


def _responsive(workers: Collection[Worker], now: float) -> list[Worker]:
    return [
        worker
        for worker in workers
        if not worker.is_killed and now < worker.heard_seconds + SLOW_SECONDS
    ]


def scan_seconds(workers: Collection[Worker], now: float) -> float:
    """Return when the next scan can begin although no worker ends; -inf if it can at once."""
    if len(workers) >= WORKERS_MAX:
        return math.inf
    scanning = [worker for worker in _responsive(workers, now) if worker.task.is_scan]
    return max((worker.heard_seconds + SLOW_SECONDS for worker in scanning), default=-math.inf)


def saturated_servers(workers: Collection[Worker]) -> frozenset[str]:
    """Return servers that get no further push now, so that a slow one does not take all."""
    awaited = Counter(
        server
        for worker in workers
        if worker.task.is_push and worker.has_started
        for server in worker.awaited_servers
    )
    return frozenset(name for name, number in awaited.items() if number >= PUSHING_MAX)


def end_seconds(worker: Worker) -> float:
    """Return when a worker that was told to end has to be killed; infinite for any other."""
    if worker.terminated_seconds is None or worker.is_killed:
        return math.inf
    return worker.terminated_seconds + END_MAX_SECONDS


def why_kill(worker: Worker, now: float) -> str:
    """Return why a worker has to be killed now; empty if it need not be."""
    if now >= end_seconds(worker):
        return "it did not end when told to"
    is_silent = now > worker.heard_seconds + SILENCE_MAX_SECONDS
    return "it reports nothing any more" if is_silent else ""
