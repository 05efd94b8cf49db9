"""The work itself: looks at sources that were told of, and has children scan and push."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from envsync.daemon import lag, triggers
from envsync.daemon.book import Book
from envsync.daemon.children import Child
from envsync.daemon.duties import Duties
from envsync.daemon.log import Log
from envsync.daemon.look import Look
from envsync.daemon.state import SourceRow
from envsync.daemon.triggers import AT_REST, Activity

CHILDREN_MAX = 4
START_AGAIN_SECONDS = 10.0
REFUSED_MAX_SECONDS = 300.0
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to do: scan these environments, or push one to these servers."""

    environments: tuple[str, ...]
    servers: tuple[str, ...] = ()
    is_settled: bool = False
    """Whether a scan is of a source that had come to rest: what it finds need not settle."""

    @property
    def is_push(self) -> bool:
        return bool(self.servers)


@dataclass(slots=True)
class _Kept:
    """One environment as the keeper sees it."""

    look: Look
    activity: Activity = AT_REST
    is_changed: bool = False
    """It came to rest after a change, and has not been pushed since."""
    refusals: int = 0
    known_by: int = 0
    """The number of the order by which its revision became known."""


@dataclass(slots=True)
class _AtWork:
    number: int
    order: Order
    child: Child
    heard: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    source_failed: bool = False


class Keeper:
    """`start` gives an order to a new child. Seconds are monotonic here."""

    def __init__(
        self,
        book: Book,
        log: Log,
        start: Callable[[Order], Child],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.book = book
        self._log = log
        self._start = start
        self._clock = clock
        self._wall = wall
        self._kept: dict[str, _Kept] = {}
        self._at_work: dict[int, _AtWork] = {}
        self._orders = 0
        self._may_start_seconds = 0.0
        self._to_scan: dict[str, bool] = {}
        self._next_rescan_seconds = 0.0

    # What is told from outside

    def adopt(self, duties: Duties) -> None:
        """From now on these environments; new ones are looked at at once."""
        self.book.adopt(duties)
        kept = self._kept
        self._kept = {}
        for name, duty in duties.by_name.items():
            old = kept.get(name)
            self._kept[name] = old if old is not None else self._begun(name, duty.path)
        self._to_scan = {name: self._to_scan[name] for name in self._to_scan if name in self._kept}
        self._next_rescan_seconds = min(
            self._next_rescan_seconds or float("inf"), self._clock() + duties.rescan_seconds
        )

    def _begun(self, name: str, path: str) -> _Kept:
        look = Look(path)
        self._to_scan[name] = False
        if not self.book.knows(name):
            old = look.unfinished(only_old=True)
            self.book.store.put_source(SourceRow(name, tolerated=old))
        return _Kept(look)

    def hint(self, names: Iterable[str]) -> None:
        """Something may have changed there."""
        now, settle = self._clock(), self.book.duties.settle_seconds
        for name in names:
            kept = self._kept.get(name)
            if kept is not None:
                if kept.activity.is_at_rest:
                    kept.look.glance()
                kept.activity = triggers.changed(kept.activity, now, settle)

    def sync(self, name: str) -> None:
        """A person wants it now: no pause, no settling, and what looks unfinished is accepted."""
        kept = self._kept[name]
        seen = kept.look.observe()
        row = self.book.source(name)
        tolerated = tuple(sorted({*row.tolerated, *seen.unfinished}))
        self.book.store.put_source(replace(row, tolerated=tolerated))
        self.book.due_now(name)
        kept.activity = replace(AT_REST, look_seconds=self._clock(), since_seconds=self._clock())
        kept.refusals = 0

    def pause(self, names: Iterable[str], *, paused: bool) -> None:
        for name in names:
            self.book.store.put_source(replace(self.book.source(name), paused=paused))

    def activity(self, name: str) -> Activity:
        """What goes on in one of the sources."""
        kept = self._kept.get(name)
        return AT_REST if kept is None else kept.activity

    # The turn of the loop

    def turn(self) -> None:
        """Do what is due."""
        now = self._clock()
        if now >= self._next_rescan_seconds:
            self._next_rescan_seconds = now + self.book.duties.rescan_seconds
            self._to_scan.update(dict.fromkeys(self._kept, False))
        for name, kept in self._kept.items():
            if kept.activity.is_due(now):
                self._look(name, kept, now)
        for name, kept in self._kept.items():
            self._push(name, kept)
        self._scan()

    def next_seconds(self) -> float:
        """How long from now until the next turn is due; whatever wakes the loop comes earlier."""
        now, wall = self._clock(), self._wall()
        until = [self._next_rescan_seconds - now]
        if self._may_start_seconds > now:
            until.append(self._may_start_seconds - now)
        for name, kept in self._kept.items():
            if kept.activity.look_seconds is not None:
                until.append(kept.activity.look_seconds - now)
            elif self._may_push(name, kept):
                next_try = self.book.next_try_seconds(name)
                until += [] if next_try is None else [next_try - wall]
        return max(0.02, min(until))

    def _look(self, name: str, kept: _Kept, now: float) -> None:
        seen = kept.look.observe()
        row = self.book.source(name)
        tolerated = self._tolerated(name, seen.unfinished)
        seen = replace(
            seen, unfinished=tuple(sign for sign in seen.unfinished if sign not in tolerated)
        )
        settle = self.book.duties.settle_seconds
        was = kept.activity
        kept.activity, is_ready = triggers.looked(was, seen, now, settle)
        if kept.activity.busy and not was.busy:
            self._log.info(f"waiting for {kept.activity.busy}", environment=name)
        if kept.activity.unfinished:
            self.book.source_failed(name, _unfinished(kept.activity.unfinished))
        elif is_ready:
            if row.error is not None and row.error.get("code") == UNFINISHED:
                self.book.source_is_fine(name)
            kept.look.accept()
            kept.is_changed = True

    def _tolerated(self, name: str, unfinished: tuple[str, ...]) -> tuple[str, ...]:
        """Accepted remains that are still there; what stood there before the first look is."""
        row = self.book.source(name)
        still = tuple(sign for sign in row.tolerated if sign in unfinished)
        if still != row.tolerated and unfinished is not None:
            self.book.store.put_source(replace(row, tolerated=still))
        return still

    def _push(self, name: str, kept: _Kept) -> None:
        if not self._may_push(name, kept):
            return
        servers = self.book.wanted(name, changed=kept.is_changed)
        if servers:
            if not self._give(Order((name,), servers)):
                return
            self.book.begun(name, servers)
        elif kept.is_changed:
            self._to_scan[name] = True  # nobody can take it now, but they are known to lag
        kept.is_changed = False

    def _may_push(self, name: str, kept: _Kept) -> bool:
        row = self.book.source(name)
        if row.paused or not kept.activity.is_at_rest or not self._has_room():
            return False
        # Without a revision its first scan is under way; with an error only a change helps.
        return kept.is_changed or (bool(row.revision) and row.error is None)

    def _scan(self) -> None:
        is_scanning = any(not work.order.is_push for work in self._at_work.values())
        if not self._to_scan or is_scanning or not self._has_room():
            return
        for is_settled in (True, False):
            names = tuple(n for n, settled in self._to_scan.items() if settled is is_settled)
            if names:
                if self._give(Order(names, is_settled=is_settled)):
                    self._to_scan = {n: s for n, s in self._to_scan.items() if n not in names}
                return

    def _give(self, order: Order) -> bool:
        """Whether there is a process for it now; where there is none, all of them wait a little."""
        try:
            child = self._start(order)
        except OSError as error:
            self._log.error(f"no process can be started: {error}")
            self._may_start_seconds = self._clock() + START_AGAIN_SECONDS
            return False
        self._orders += 1
        self._at_work[child.fd] = _AtWork(self._orders, order, child)
        return True

    def _has_room(self) -> bool:
        return len(self._at_work) < CHILDREN_MAX and self._clock() >= self._may_start_seconds

    # Children

    @property
    def children(self) -> dict[int, Child]:
        """Those at work, by the descriptor to wait for."""
        return {fd: work.child for fd, work in self._at_work.items()}

    def hear(self, fd: int) -> None:
        """A child has said something, or is over."""
        work = self._at_work[fd]
        for document in work.child.read():
            self._heard(work, document)
        if work.child.is_over:
            del self._at_work[fd]
            self._over(work)

    def _heard(self, work: _AtWork, document: Mapping[str, Any]) -> None:
        name = str(document.get("environment", ""))
        if name not in self._kept or name not in work.order.environments:
            return
        work.heard.add(name)
        error = document.get("error")
        if isinstance(error, dict):
            work.source_failed = True
            self._source_failed(name, error)
        elif isinstance(document.get("report"), dict):
            report = document["report"]
            work.reported.add(str(report.get("server", "")))
            if lag.is_of_the_source(report):
                work.source_failed = True
                self._source_failed(name, report["error"])
            self.book.reported(name, report)
        elif isinstance(document.get("revision"), str):
            self._source_is(work, name, document["revision"])

    def _source_is(self, work: _AtWork, name: str, revision: str) -> None:
        kept = self._kept[name]
        kept.refusals = 0
        if work.number < kept.known_by:
            return  # a long push tells what the source was before somebody else looked at it
        kept.known_by = work.number
        is_news = self.book.source_is(name, revision)
        if is_news and not work.order.is_push and not work.order.is_settled:
            self.hint([name])

    def _source_failed(self, name: str, error: Mapping[str, Any]) -> None:
        """Ask again later, if that may help: a directory that is gone is told of when it comes."""
        kept = self._kept[name]
        self.book.source_failed(name, error)
        if error.get("code") == "not-found" or not kept.activity.is_at_rest:
            return
        settle = self.book.duties.settle_seconds
        pause = min(max(settle, 1.0) * 2**kept.refusals, REFUSED_MAX_SECONDS)
        kept.refusals += 1
        kept.activity = triggers.changed(kept.activity, self._clock(), pause)

    def _over(self, work: _AtWork) -> None:
        order = work.order
        told = _broken(work.child.status, work.child.said)
        names = [name for name in order.environments if name in self._kept]
        if order.is_push:
            # One that was reported may be at work again, by a younger child.
            silent = tuple(server for server in order.servers if server not in work.reported)
            for name in names:
                self.book.ended(name, silent, None if work.source_failed else told)
            return
        for name in set(names) - work.heard:
            self.book.source_failed(name, told)

    def stop(self, within_seconds: float) -> None:
        """End every child; what they were at is done again after the next start."""
        deadline = time.monotonic() + within_seconds
        children = [work.child for work in self._at_work.values()]
        for child in children:
            child.end()
        for child in children:
            child.wait_over(deadline)
        self._at_work.clear()


def _unfinished(signs: tuple[str, ...]) -> dict[str, Any]:
    return {
        "code": UNFINISHED,
        "exit_code": 9,
        "server": None,
        "message": f"an installation is not finished: {signs[0]}",
        "hint": "install once more, or remove what was left; "
        "`envsync daemon sync` pushes it as it is",
        "details": list(signs[1:]),
    }


def _broken(status: int | None, said: str) -> dict[str, Any]:
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
    return {
        "code": "unexpected",
        "exit_code": 1,
        "server": None,
        "message": f"the process that pushes ended by itself ({how}){f': {last}' if last else ''}",
        "hint": "",
        "details": said.splitlines(),
    }
