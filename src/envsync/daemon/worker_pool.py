"""The children at work: how many there may be, who was given what, and how they end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from envsync.daemon.log import Log
from envsync.daemon.tasks import BEGIN, CHANGED_SINCE, Order
from envsync.daemon.worker_process import Child

CHILDREN_MAX = 4
"""How many may push at a time, those aside that wait for a slow server; and how many to one."""

CHILDREN_HARD_MAX = 16
"""How many there may be with those."""

SLOW_SECONDS = 180.0
"""A child of which nothing was heard for so long waits for a slow server or a silent one, and
makes room for pushes to others."""

START_AGAIN_SECONDS = 10.0

SILENCE_MAX_SECONDS = 86400.0
"""A child that has said nothing for so long is killed: what it waits for has no end of its own
(a disk that is gone, a process that was stopped), and nobody else may take its place."""

END_MAX_SECONDS = 10.0
"""A child that was told to end and is still there after so long is killed."""

Start = Callable[[Order], Child]


@dataclass(slots=True)
class AtWork:
    """A child with its order, and what was heard of it.

    `number` counts orders by when they began; 0 for one that awaits its word.
    """

    order: Order
    child: Child
    since_seconds: float
    number: int = 0
    is_changed_since: bool = False
    heard_seconds: float = 0.0
    heard: set[str] = field(default_factory=set)
    """The environments of which it said what became of them."""
    reported: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    """The servers whose names lead elsewhere by now: what it says of them is not of those."""
    source_failed: bool = False
    ended_seconds: float | None = None
    """When it was told to end before its work was done."""
    is_killed: bool = False

    @property
    def is_ended(self) -> bool:
        return self.ended_seconds is not None

    @property
    def has_begun(self) -> bool:
        return self.number > 0

    @property
    def is_ready(self) -> bool:
        """Whether it waits for its word, and is there to hear it."""
        return not self.has_begun and not self.child.is_over


class Crew:
    """`start` gives an order to a new child. Seconds are monotonic here."""

    def __init__(self, start: Start, log: Log, clock: Callable[[], float]) -> None:
        self._start = start
        self._log = log
        self._clock = clock
        self._at_work: dict[int, AtWork] = {}
        self._begun = 0
        self._may_start_seconds = 0.0

    @property
    def children(self) -> dict[int, Child]:
        """Those at work, by the descriptor to wait for."""
        return {fd: work.child for fd, work in self._at_work.items()}

    @property
    def is_scanning(self) -> bool:
        return any(work.order.is_scan for work in self._at_work.values())

    def has_room(self) -> bool:
        """Whether one more may push."""
        few = len(self._at_work) < CHILDREN_HARD_MAX
        return self.may_start() and few and len(self._taking_room()) < CHILDREN_MAX

    def may_start(self) -> bool:
        """Whether a process may be had, as far as is known; a scan needs no more."""
        return self._clock() >= self._may_start_seconds

    def room_seconds(self) -> float | None:
        """How long from now until there may be room; None where there is, or nobody can say."""
        if not self.may_start():
            return self._may_start_seconds - self._clock()
        if self.has_room():
            return None
        heard = [work.heard_seconds for work in self._taking_room() if work.has_begun]
        return min(heard) + SLOW_SECONDS - self._clock() if heard else None

    def _taking_room(self) -> list[AtWork]:
        slow_before = self._clock() - SLOW_SECONDS
        works = [work for work in self._at_work.values() if not work.order.is_scan]
        return [
            work
            for work in works
            if not work.is_killed and (not work.has_begun or work.heard_seconds > slow_before)
        ]

    def crowded(self) -> frozenset[str]:
        """The servers to which nobody else is to push now: a slow one does not get every child."""
        pushes = [work for work in self._at_work.values() if work.order.is_push and work.has_begun]
        waited_for = Counter(
            server
            for work in pushes
            for server in set(work.order.servers) - work.reported - work.moved
        )
        return frozenset(name for name, number in waited_for.items() if number >= CHILDREN_MAX)

    def give(self, order: Order) -> AtWork | None:
        """A process for it; where there is none, all of them wait a little."""
        try:
            child = self._start(order)
        except OSError as error:
            self._log.error(f"no process can be started: {error}")
            self._may_start_seconds = self._clock() + START_AGAIN_SECONDS
            return None
        work = AtWork(order, child, self._clock())
        if not order.awaits_word:
            self._number(work)
        self._at_work[child.fd] = work
        return work

    def begin(self, work: AtWork) -> None:
        """Give the word to one that is ready."""
        self._number(work)
        work.child.tell(CHANGED_SINCE if work.is_changed_since else BEGIN)

    def _number(self, work: AtWork) -> None:
        self._begun += 1
        work.number = self._begun
        work.heard_seconds = self._clock()

    def hear(self, fd: int) -> tuple[AtWork, list[dict[str, Any]]]:
        """What one of them has said since; nothing is heard of one that was told nothing."""
        work = self._at_work[fd]
        documents = work.child.read()
        if documents:
            work.heard_seconds = self._clock()
        if work.child.is_over:
            del self._at_work[fd]
        return work, documents if work.has_begun else []

    def end(self, work: AtWork) -> None:
        """Tell it to end, and leave it some seconds for that."""
        if work.ended_seconds is None:
            work.ended_seconds = self._clock()
        work.child.end()

    def kill_overdue(self) -> None:
        """Kill who was told to end and has not, and who has been silent at its work for too
        long; that it is over is heard as ever. One that cannot be killed is told of daily."""
        for work in self._at_work.values():
            why = self._overdue(work)
            if why:
                self._log.error(f"process {work.child.pid} is killed: {why}")
                work.child.kill()
                work.is_killed = True
                work.heard_seconds = self._clock()

    def _overdue(self, work: AtWork) -> str:
        if self._seconds_to_end(work) <= 0:
            return "it was told to end, and does not"
        is_silent = self._clock() - work.heard_seconds > SILENCE_MAX_SECONDS
        return "it says nothing any more" if is_silent and work.has_begun else ""

    def _seconds_to_end(self, work: AtWork) -> float:
        if work.ended_seconds is None or work.is_killed:
            return float("inf")
        return work.ended_seconds + END_MAX_SECONDS - self._clock()

    def next_seconds(self) -> float:
        """How long from now until somebody may have to be killed."""
        return min(map(self._seconds_to_end, self._at_work.values()), default=float("inf"))

    def has_moved(self, environment: str, server: str) -> None:
        """Who is at it with that server goes on, at the place where it was."""
        for work in self._at_work.values():
            if environment in work.order.environments:
                work.moved.add(server)

    def makes_spare(self, environment: str) -> frozenset[str]:
        """The servers on which somebody makes a spare tree of it, and so has the lock."""
        making = self._making_spares(environment)
        return frozenset(server for work in making for server in work.order.servers)

    def end_spares(self, environment: str) -> bool:
        """End who makes a spare tree of it, where it would be in the way; whether anybody did."""
        making = self._making_spares(environment)
        for work in making:
            self.end(work)
        return bool(making)

    def _making_spares(self, environment: str) -> list[AtWork]:
        """One that even a kill does not end is in nobody's way: its lock yields to pushes."""
        return [
            work
            for work in self._at_work.values()
            if work.order.makes_spare and environment in work.order.environments
            if not work.is_killed
        ]

    def stop(self, within_seconds: float) -> None:
        """End every child; what they were at is done again after the next start."""
        deadline = time.monotonic() + within_seconds
        children = [work.child for work in self._at_work.values()]
        for child in children:
            child.end()
        for child in children:
            child.wait_over(deadline)
        self._at_work.clear()


def broken(work: AtWork) -> dict[str, Any]:
    """What is said of a child that ended without a word."""
    status, said = work.child.status, work.child.said
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
    what = f"the process that {work.order.verb} ended by itself ({how})"
    return {
        "code": "unexpected",
        "exit_code": 1,
        "server": None,
        "message": f"{what}: {last}" if last else what,
        "hint": "",
        "details": said.splitlines(),
    }
