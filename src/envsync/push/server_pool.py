"""A thread pool for many servers, some at a time; a slow one gives its slot to another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

AT_ONCE = 8
"""How many are served at a time while they answer."""

PATIENCE_SECONDS = 3.0
"""What most answer in; a server that says nothing is given up after a minute or so."""

THREADS_MAX = 64
"""With those that have given their place to others."""

_LOOK_SECONDS = 0.25

P = TypeVar("P")
T = TypeVar("T")


class ServerPool(Generic[P, T]):
    """`begin`, `finish` and `results`; or `abandon` at any time, which waits for nobody."""

    def __init__(
        self,
        serve: Callable[[P], T],
        places: Sequence[P],
        is_waiting: Callable[[P], bool] = lambda _: True,
        at_once: int = AT_ONCE,
    ) -> None:
        """`is_waiting` tells, of a place that is served, whether that costs only time."""
        self._serve = serve
        self._is_waiting = is_waiting
        self._at_once = at_once
        self._left = deque(places)
        self._futures: list[Future[T]] = []
        self._running: dict[Future[T], tuple[P, float]] = {}
        self._threads_max = max(at_once, THREADS_MAX)
        threads = max(1, min(self._threads_max, len(places)))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="server")

    def begin(self) -> None:
        """Serve as many as there are places for now."""
        busy = sum(self._has_its_place(*running) for running in self._running.values())
        while self._left and busy < self._at_once and len(self._running) < self._threads_max:
            place = self._left.popleft()
            future = self._pool.submit(self._serve, place)
            self._futures.append(future)
            self._running[future] = place, time.monotonic()
            busy += 1

    def finish(self) -> None:
        """Until all were served."""
        self.begin()
        while self._running:
            timeout = _LOOK_SECONDS if self._left else None
            for future in wait(self._running, timeout, FIRST_COMPLETED).done:
                del self._running[future]
            self.begin()

    def results(self) -> list[T]:
        """In the order of the places; raises what serving one of them did, which is a bug."""
        self._pool.shutdown()
        return [future.result() for future in self._futures]

    def abandon(self) -> None:
        """Begin no more, and leave those that are served to themselves."""
        self._left.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _has_its_place(self, place: P, since_seconds: float) -> bool:
        is_long = time.monotonic() - since_seconds > PATIENCE_SECONDS
        return not (is_long and self._is_waiting(place))
