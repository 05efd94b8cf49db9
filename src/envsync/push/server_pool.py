"""A thread pool for many servers, some at a time; a slow one gives up its slot to another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

SERVERS_AT_ONCE = 8
"""How many servers are served at a time, as long as they answer."""

SLOT_SECONDS = 3.0
"""How long a server keeps its slot while it is only waited for. Most answer sooner; connecting to
one that never does is given up after a minute or so."""

THREADS_MAX = 64
"""The most threads, including those whose server has given up its slot."""

_LOOK_SECONDS = 0.25
"""How long a wait lasts at most. A Ctrl-C just before a wait is only seen after it."""

P = TypeVar("P")
T = TypeVar("T")
Answered = Callable[[], None]
"""Called once a server has answered, and is no longer only waited for."""


@dataclass(slots=True)
class _Running:
    since_seconds: float
    has_answered: bool = False

    def answered(self) -> None:
        self.has_answered = True

    def has_slot(self) -> bool:
        return self.has_answered or time.monotonic() - self.since_seconds <= SLOT_SECONDS


class ServerPool(Generic[P, T]):
    """Serves places. Call `begin`, `finish` and `results`; or, at any time, `abandon`."""

    def __init__(
        self,
        serve: Callable[[P, Answered], T],
        places: Sequence[P],
        at_once: int = SERVERS_AT_ONCE,
    ) -> None:
        """Until `serve` has called its second argument, the place may lose its slot."""
        self._serve = serve
        self._at_once = at_once
        self._left = deque(places)
        self._futures: list[Future[T]] = []
        self._running: dict[Future[T], _Running] = {}
        self._threads_max = max(at_once, THREADS_MAX)
        threads = max(1, min(self._threads_max, len(places)))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="server")

    def begin(self) -> None:
        """Start serving as many places as there are free slots."""
        busy = sum(running.has_slot() for running in self._running.values())
        while self._left and busy < self._at_once and len(self._running) < self._threads_max:
            running = _Running(time.monotonic())
            future = self._pool.submit(self._serve, self._left.popleft(), running.answered)
            self._futures.append(future)
            self._running[future] = running
            busy += 1

    def finish(self) -> None:
        """Serve all places, and return when that is done."""
        self.begin()
        while self._running:
            for future in wait(self._running, _LOOK_SECONDS, FIRST_COMPLETED).done:
                del self._running[future]
            self.begin()

    def results(self) -> list[T]:
        """Return the results in the order of the places.

        Raises what serving one of them raised, which is a bug.
        """
        self._pool.shutdown()
        return [future.result() for future in self._futures]

    def abandon(self) -> None:
        """Start no more, let those that are running run on, and wait for none."""
        self._left.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
