"""The work itself: looks at sources that were told of, and has children scan and push."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from envsync.daemon import triggers
from envsync.daemon.assignments import Duties
from envsync.daemon.install_check import Look
from envsync.daemon.log import Log
from envsync.daemon.message_handler import Hearing, Kept
from envsync.daemon.store import IN_STEP, SourceRow
from envsync.daemon.sync_state import Book
from envsync.daemon.tasks import Glance, Order
from envsync.daemon.triggers import AT_REST, Activity
from envsync.daemon.worker_pool import Crew, Start
from envsync.daemon.worker_process import Child

READY_SECONDS = 5.0
"""How long before it may be pushed a child is made ready for it: the time to start one and
to connect."""

READY_MAX_SECONDS = 60.0
"""A child that is ready is not kept for longer: somebody keeps changing the source."""


class Keeper:
    """`start` gives an order to a new child. Seconds are monotonic here."""

    def __init__(
        self,
        book: Book,
        log: Log,
        start: Start,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.book = book
        self._log = log
        self._clock = clock
        self._wall = wall
        self._kept: dict[str, Kept] = {}
        self._crew = Crew(start, log, clock)
        self._hearing = Hearing(book, log, self._kept, lambda name: self.hint([name]), clock)
        self._to_scan: dict[str, bool] = {}
        self._next_rescan_seconds = 0.0

    # What is told from outside

    def adopt(self, duties: Duties) -> None:
        """From now on these environments; new ones are looked at at once."""
        moved = self.book.adopt(duties)
        for name in [name for name in self._kept if name not in duties.by_name]:
            self._dismiss(self._kept.pop(name))
        for name, duty in duties.by_name.items():
            kept = self._kept.get(name)
            self._dismiss(kept)  # it was made ready by the inventory of before
            if kept is None or kept.path != duty.path:
                kept = self._kept[name] = self._begun(name, duty.path)
            elif kept.local != duty.local:
                kept.digest = ""
                self._to_scan[name] = False
            kept.local = duty.local
        for name, server in moved:
            self._end_spares(name, self._kept[name])
            self._kept[name].wants_spare(server)
            self._crew.has_moved(name, server)
        self._to_scan = {name: self._to_scan[name] for name in self._to_scan if name in self._kept}
        self._next_rescan_seconds = min(
            self._next_rescan_seconds or float("inf"), self._clock() + duties.rescan_seconds
        )

    def _begun(self, name: str, path: str) -> Kept:
        """One that was not at rest when it was known last is looked at before it is pushed."""
        look = Look(path)
        self._to_scan[name] = False
        if not self.book.knows(name):
            old = look.unfinished(only_old=True)
            self.book.store.put_source(SourceRow(name, tolerated=old))
        kept, row = Kept(path, look), self.book.source(name)
        if row.error is not None and row.error.get("code") != "not-found":
            look.suspect(row.unfinished)
            now = self._clock()
            first = triggers.changed(AT_REST, now, self.book.duties.settle_seconds)
            kept.activity = replace(first, unfinished=row.unfinished)
        return kept

    def hint(self, names: Iterable[str]) -> None:
        """Something may have changed there."""
        now, settle = self._clock(), self.book.duties.settle_seconds
        for name in names:
            kept = self._kept.get(name)
            if kept is not None:
                if kept.activity.is_at_rest:
                    kept.look.glance()
                self._end_spares(name, kept)
                kept.activity = triggers.changed(kept.activity, now, settle)
                if kept.ready is not None:
                    kept.ready.is_changed_since = True

    def sync(self, name: str) -> None:
        """A person wants it now: no pause, no settling, and what looks unfinished is accepted."""
        kept = self._kept[name]
        seen = kept.look.observe()
        row = self.book.source(name)
        tolerated = tuple(sorted({*row.tolerated, *seen.unfinished}))
        self.book.store.put_source(replace(row, tolerated=tolerated))
        self.book.due_now(name)
        self._end_spares(name, kept)
        kept.activity = replace(AT_REST, look_seconds=self._clock(), since_seconds=self._clock())
        kept.refusals = 0

    def pause(self, names: Iterable[str], *, paused: bool) -> None:
        for name in names:
            self.book.store.put_source(replace(self.book.source(name), paused=paused))

    def activity(self, name: str) -> Activity:
        """What goes on in one of the sources."""
        kept = self._kept.get(name)
        return AT_REST if kept is None else kept.activity

    def busy(self) -> dict[str, str]:
        """Who is at work on which source."""
        return {n: kept.activity.busy for n, kept in self._kept.items() if kept.activity.busy}

    # The turn of the loop

    def turn(self) -> None:
        """Do what is due."""
        now = self._clock()
        self._crew.kill_overdue()
        if now >= self._next_rescan_seconds:
            self._next_rescan_seconds = now + self.book.duties.rescan_seconds
            self._to_scan.update(dict.fromkeys(self._kept, False))
            for kept in self._kept.values():
                kept.try_spares_again()
        for name, kept in self._kept.items():
            if kept.activity.is_due(now):
                self._look(name, kept, now)
        for name, kept in self._kept.items():
            self._make_ready(name, kept, now)
            self._push(name, kept)
        self._scan()
        self._make_spares()

    def next_seconds(self) -> float:
        """How long from now until the next turn is due; whatever wakes the loop comes earlier."""
        now, wall = self._clock(), self._wall()
        until = [self._next_rescan_seconds - now, self._crew.next_seconds()]
        room = self._crew.room_seconds()
        until += [] if room is None else [room]
        for name, kept in self._kept.items():
            if kept.activity.look_seconds is not None:
                look = kept.activity.look_seconds - now
                ahead = look - self._ready_seconds()
                until.append(look if kept.ready is not None or ahead <= 0 else ahead)
            elif self._may_push(name, kept):
                next_try = self.book.next_try_seconds(name, self._crew.crowded())
                until += [] if next_try is None else [next_try - wall]
        return max(0.02, min(until))

    def _look(self, name: str, kept: Kept, now: float) -> None:
        seen = kept.look.observe()
        tolerated = () if seen.busy else self._tolerated(name, seen.unfinished)
        seen = replace(
            seen, unfinished=tuple(sign for sign in seen.unfinished if sign not in tolerated)
        )
        settle = self.book.duties.settle_seconds
        was = kept.activity
        kept.activity, is_ready = triggers.looked(was, seen, now, settle)
        if kept.activity.busy and not was.busy:
            self._log.info(f"waiting for {kept.activity.busy}", environment=name)
        if kept.activity.unfinished:
            self.book.source_is_unfinished(name, kept.activity.unfinished)
        elif is_ready:
            self.book.source_is_finished(name)
            kept.look.accept()
            kept.is_changed = True

    def _tolerated(self, name: str, unfinished: tuple[str, ...]) -> tuple[str, ...]:
        """Accepted remains that are still there; what stood there before the first look is. Not to
        be asked while an installer is at work: a look then does not say what else is there."""
        row = self.book.source(name)
        still = tuple(sign for sign in row.tolerated if sign in unfinished)
        if still != row.tolerated:
            self.book.store.put_source(replace(row, tolerated=still))
        return still

    # Made ready ahead

    def _ready_seconds(self) -> float:
        return min(READY_SECONDS, self.book.duties.settle_seconds / 2)

    def _may_make_ready(self, name: str, kept: Kept) -> bool:
        row, activity = self.book.source(name), kept.activity
        is_going_to_rest = not (activity.is_at_rest or activity.busy or activity.unfinished)
        return is_going_to_rest and bool(row.revision) and not row.paused

    def _make_ready(self, name: str, kept: Kept, now: float) -> None:
        """Have a child there, connected, when the source has settled."""
        if kept.ready is not None:
            is_old = now - kept.ready.since_seconds > READY_MAX_SECONDS
            is_waited_for = kept.is_changed or self._may_make_ready(name, kept)
            if is_old or not is_waited_for:
                self._dismiss(kept)
            return
        look_seconds = kept.activity.look_seconds
        if look_seconds is None or now < look_seconds - self._ready_seconds():
            return
        if self._may_make_ready(name, kept) and self._crew.has_room():
            servers = self._wanted(name, changed=True)
            if servers:
                kept.ready = self._crew.give(Order((name,), servers, awaits_word=True))

    def _dismiss(self, kept: Kept | None) -> None:
        if kept is not None and kept.ready is not None:
            self._crew.end(kept.ready)
            kept.ready = None

    # Pushing and scanning

    def _push(self, name: str, kept: Kept) -> None:
        if not self._may_push(name, kept):
            return
        servers = self._wanted(name, changed=kept.is_changed)
        locked = self._crew.makes_spare(name)
        if locked and kept.is_changed:
            return  # it was told to end, and does so soon
        servers = tuple(server for server in servers if server not in locked)
        if servers:
            if not self._begin(Order((name,), servers), kept):
                return
            self.book.begun(name, servers)
        elif kept.is_changed:
            self._to_scan[name] = True  # nobody can take it now, but they are known to lag
        kept.is_changed = False

    def _wanted(self, name: str, *, changed: bool) -> tuple[str, ...]:
        crowded = self._crew.crowded()
        servers = self.book.wanted(name, changed=changed)
        return tuple(server for server in servers if server not in crowded)

    def _begin(self, order: Order, kept: Kept) -> bool:
        """By the child that is ready for exactly that, else by another."""
        ready = kept.ready
        if ready is not None and ready.is_ready and ready.order == order:
            kept.ready = None
            self._crew.begin(ready)
            return True
        self._dismiss(kept)
        return self._crew.has_room() and self._crew.give(order) is not None

    def _may_push(self, name: str, kept: Kept) -> bool:
        row = self.book.source(name)
        if row.paused or not kept.activity.is_at_rest:
            return False
        if kept.ready is None and not self._crew.has_room():
            return False
        # Without a revision its first scan is under way; with an error only a change helps.
        return kept.is_changed or (bool(row.revision) and row.error is None)

    def _scan(self) -> None:
        if not self._to_scan or self._crew.is_scanning or not self._crew.may_start():
            return
        for is_settled in (True, False):
            names = tuple(n for n, settled in self._to_scan.items() if settled is is_settled)
            if names:
                glances = () if is_settled else tuple(map(self._glance, names))
                if self._crew.give(Order(names, is_settled=is_settled, glances=glances)):
                    self._to_scan = {n: s for n, s in self._to_scan.items() if n not in names}
                return

    def _glance(self, name: str) -> Glance:
        """What a rescan may be spared by; nothing where the last one failed, or was none."""
        kept, row = self._kept[name], self.book.source(name)
        is_known = bool(row.revision) and row.error is None
        return Glance(name, kept.path, kept.digest if is_known else "")

    # Ahead of the next push

    def _make_spares(self) -> None:
        """While there is nothing else to do: trees for the next push to be built on."""
        if self._crew.children or self._to_scan:
            return
        for name, kept in self._kept.items():
            if kept.is_changed or not self._may_push(name, kept):
                continue
            in_step = [row.server for row in self.book.servers(name) if row.state == IN_STEP]
            servers = tuple(server for server in in_step if server not in kept.spared)
            if servers and self._crew.give(Order((name,), servers, makes_spare=True)):
                kept.spared.update(servers)
                return

    def _end_spares(self, name: str, kept: Kept) -> None:
        """It holds the lock there, and copies what is going to be replaced."""
        if self._crew.end_spares(name):
            kept.spared.clear()

    # Children

    @property
    def children(self) -> dict[int, Child]:
        """Those at work, by the descriptor to wait for."""
        return self._crew.children

    def hear(self, fd: int) -> None:
        """A child has said something, or is over."""
        work, documents = self._crew.hear(fd)
        for document in documents:
            self._hearing.heard(work, document)
        if work.child.is_over:
            self._hearing.over(work)

    def stop(self, within_seconds: float) -> None:
        """End every child; what they were at is done again after the next start."""
        self._crew.stop(within_seconds)
