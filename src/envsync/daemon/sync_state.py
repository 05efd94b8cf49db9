"""What the daemon knows, brought up to date by what it hears; each change is told once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from envsync.daemon import transitions
from envsync.daemon.assignments import Duties
from envsync.daemon.log import ERROR, INFO, WARNING, Log
from envsync.daemon.store import (
    HALTED,
    HELD,
    IN_STEP,
    PUSHING,
    RETRYING,
    WAITING,
    ServerRow,
    SourceRow,
    Store,
    Told,
)
from envsync.tree.revision import short


@dataclass(slots=True)
class _Reach:
    """A server that cannot be reached: one environment at a time tries it, `tried_by`."""

    attempts: int = 0
    next_try_seconds: float = 0.0
    tried_by: str = ""


class Book:
    """One row for each source, and one for each environment on each server."""

    def __init__(
        self,
        store: Store,
        log: Log,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.store = store
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._unreachable: dict[str, _Reach] = {}
        self._duties: Duties | None = None
        self._latest_seconds = clock()

    @property
    def duties(self) -> Duties:
        assert self._duties is not None
        return self._duties

    def _now(self) -> float:
        """By the wall clock. Where that was set back, so is whatever is to come: else a server
        would wait for as long as the clock was ahead."""
        now = self._clock()
        if now < self._latest_seconds:
            self._set_back(self._latest_seconds - now)
        self._latest_seconds = now
        return now

    def _set_back(self, seconds: float) -> None:
        for row in list(self.store.contents.servers.values()):
            if row.next_try_seconds is not None:
                self._put(replace(row, next_try_seconds=row.next_try_seconds - seconds))
        for reach in self._unreachable.values():
            reach.next_try_seconds -= seconds

    def adopt(self, duties: Duties) -> set[tuple[str, str]]:
        """From now on these environments and servers; what is known of others is forgotten.
        Gives those copies whose server's name leads elsewhere now."""
        self._duties = duties
        now = self._now()
        wanted = {
            (duty.environment, server): duty.places.get(server, "")
            for duty in duties.by_name.values()
            for server in duty.servers
        }
        for key in [key for key in self.store.contents.servers if key not in wanted]:
            self.store.drop_server(*key)
        for name in [name for name in self.store.contents.sources if name not in duties.by_name]:
            self.store.drop_source(name)
        moved = set()
        for (environment, server), place in sorted(wanted.items()):
            row = self.store.contents.servers.get((environment, server))
            if row is not None and row.place not in ("", place):
                moved.add((environment, server))
                self._unreachable.pop(server, None)
                row = None
            row = row or ServerRow(environment, server, since_seconds=now)
            self._put(transitions.clamped(replace(row, place=place), now, duties.rescan_seconds))
        return moved

    def knows(self, environment: str) -> bool:
        """Whether it was ever kept by a daemon here."""
        return environment in self.store.contents.sources

    def source(self, environment: str) -> SourceRow:
        return self.store.contents.sources[environment]

    def servers(self, environment: str) -> list[ServerRow]:
        """In the order of the inventory."""
        rows = self.store.contents.servers
        return [rows[environment, server] for server in self._names(environment)]

    def _names(self, environment: str) -> tuple[str, ...]:
        duty = self.duties.by_name.get(environment)
        return () if duty is None else duty.servers

    def _put(self, row: ServerRow) -> None:
        if self.store.contents.servers.get((row.environment, row.server)) != row:
            self.store.put_server(row)

    # What is to be done

    def wanted(self, environment: str, *, changed: bool) -> tuple[str, ...]:
        """The servers to push to now; with `changed`, whatever the source is by now."""
        now = self._now()
        revision = self.source(environment).revision
        return tuple(
            row.server
            for row in self.servers(environment)
            if row.state != PUSHING
            and (changed or transitions.is_wanted(row, revision, now))
            and self._may_try(row.server, now)
        )

    def _may_try(self, server: str, now: float) -> bool:
        reach = self._unreachable.get(server)
        return reach is None or (not self._is_tried(server) and now >= reach.next_try_seconds)

    def _is_tried(self, server: str) -> bool:
        """Whether the push that was to find out is still under way: whatever else became of it
        (a source that was not at rest, an inventory without it), the next one may try."""
        row = self.store.contents.servers.get((self._pace(server).tried_by, server))
        return row is not None and row.state == PUSHING

    def next_try_seconds(self, environment: str, left_out: Collection[str] = ()) -> float | None:
        """When `wanted` may say more by itself of servers that are not left out, by the wall
        clock; None where only by news."""
        times = [
            max(row.next_try_seconds or 0.0, self._pace(row.server).next_try_seconds)
            for row in self.servers(environment)
            if row.state not in (PUSHING, IN_STEP)
            and row.server not in left_out
            and (row.next_try_seconds is not None or row.server in self._unreachable)
            and not self._is_tried(row.server)
        ]
        return min(times, default=None)

    def _pace(self, server: str) -> _Reach:
        return self._unreachable.get(server, _Reach())

    # What was heard

    def begun(self, environment: str, servers: tuple[str, ...]) -> None:
        """A push to these begins."""
        for row in self.servers(environment):
            if row.server in servers:
                self._put(transitions.pushing(row, self._now()))
                if row.server in self._unreachable:
                    self._unreachable[row.server].tried_by = environment

    def source_is(self, environment: str, revision: str) -> bool:
        """The source was scanned; whether it is another one than was known.

        What is half done in it stays so: that a scan can be made of it says nothing of that.
        """
        row = self.source(environment)
        error = row.error if row.unfinished else None
        if row.error is not None and error is None:
            self._log.info("it is at rest again", environment=environment)
        now = self._now()
        self.store.put_source(replace(row, revision=revision, checked_seconds=now, error=error))
        for server in self.servers(environment):
            if server.state == IN_STEP and server.revision != revision:
                self._put(transitions.lagging(server, now))
        return row.revision != revision

    def source_checked(self, environment: str) -> None:
        """A glance has found it as it was."""
        row = self.source(environment)
        self.store.put_source(replace(row, checked_seconds=self._now()))

    def source_failed(self, environment: str, error: Told) -> None:
        """It is not at rest, or not there: nothing of it is pushed."""
        row = self.source(environment)
        if not row.unfinished:
            self._put_failure(row, error)

    def source_is_unfinished(self, environment: str, signs: tuple[str, ...]) -> None:
        """A look has found that half done: nothing is pushed until another finds it whole."""
        self._put_failure(replace(self.source(environment), unfinished=signs), _unfinished(signs))

    def _put_failure(self, row: SourceRow, error: Told) -> None:
        before = self.source(row.environment)
        if before.error is None or before.error.get("message") != error.get("message"):
            self._log.failure(error, environment=row.environment)
        elif before.unfinished == row.unfinished:
            return
        self.store.put_source(replace(row, error=dict(error)))

    def source_is_finished(self, environment: str) -> None:
        """A look has found nothing half done in it."""
        row = self.source(environment)
        if row.unfinished:
            self.store.put_source(replace(row, unfinished=(), error=None))

    def reported(self, environment: str, report: Mapping[str, Any]) -> None:
        """A push to one server has ended."""
        before = self.store.contents.servers.get((environment, str(report.get("server", ""))))
        if before is None:
            return  # the inventory has lost it meanwhile
        error = report.get("error")
        code = "" if error is None else str(error.get("code", ""))
        now = self._now()
        if transitions.is_of_the_source(report):
            self._put(transitions.postponed(before, now))
            return
        after = transitions.reported(
            before, report, now, self.duties.rescan_seconds, self._jitter()
        )
        after = self._reached(after, code, now)
        self._put(after)
        self._tell(before, after, report)

    def _reached(self, row: ServerRow, code: str, now: float) -> ServerRow:
        """Keep all environments of a server that is out of reach to one pace."""
        server = row.server
        if code not in transitions.UNREACHABLE:
            if self._unreachable.pop(server, None) is not None:
                self._due_again(server, now)
            return row
        reach = self._unreachable.setdefault(server, _Reach())
        pace = transitions.failed(
            replace(row, attempts=reach.attempts), row.error or {}, "", now, 0.0, self._jitter()
        )
        reach.attempts += 1
        reach.next_try_seconds = pace.next_try_seconds or now
        return replace(row, next_try_seconds=reach.next_try_seconds)

    def _due_again(self, server: str, now: float) -> None:
        """It answers: what else waits for it need not wait any longer."""
        for row in list(self.store.contents.servers.values()):
            code = (row.error or {}).get("code")
            if row.server == server and row.state == RETRYING and code in transitions.UNREACHABLE:
                self._put(replace(row, next_try_seconds=now))

    def ended(self, environment: str, servers: tuple[str, ...], said: Told | None) -> None:
        """A push's process is over. Of which servers nothing was heard, those are tried again:
        later, where it broke down; else as soon as the source is at rest."""
        now = self._now()
        for row in self.servers(environment):
            if row.server not in servers or row.state != PUSHING:
                continue
            if said is None:
                self._put(transitions.postponed(row, now))
            else:
                after = transitions.failed(
                    row, said, "", now, self.duties.rescan_seconds, self._jitter()
                )
                self._put(after)
                self._tell(row, after, {"error": said})

    def due_now(self, environment: str) -> None:
        """Forget every pause: somebody wants to see it done."""
        for row in self.servers(environment):
            self._unreachable.pop(row.server, None)
            if row.state not in (PUSHING, IN_STEP):
                self._put(replace(row, next_try_seconds=self._now(), attempts=0))

    def _tell(self, before: ServerRow, after: ServerRow, report: Mapping[str, Any]) -> None:
        """One line where something is other than it was."""
        about = {"environment": after.environment, "server": after.server}
        if after.state == IN_STEP:
            if report.get("outcome") == "pushed":
                seconds = float(report.get("seconds", 0.0))
                text = f"published {short(after.revision)} ({seconds:.1f} s)"
                self._log.notice(text, **about, revision=after.revision)
            elif before.revision != after.revision or before.error is not None:
                text = f"in step at {short(after.revision)}"
                self._log.info(text, **about, revision=after.revision)
            return
        error = after.error or {}
        known = before.error or {}
        if (error.get("code"), error.get("message")) == (known.get("code"), known.get("message")):
            return
        told = {**error, "message": f"{_HOW[after.state]}: {error.get('message', '')}"}
        self._log.failure(told, _PRIORITY.get(after.state, INFO), **about)


def _unfinished(signs: tuple[str, ...]) -> dict[str, Any]:
    """The error of a source in which an installer has left something half done."""
    return {
        "code": "unfinished",
        "exit_code": 9,
        "server": None,
        "message": f"an installation is not finished: {signs[0]}",
        "hint": "install once more, or remove what was left; "
        "`envsync daemon sync` pushes it as it is",
        "details": list(signs[1:]),
    }


_HOW = {HALTED: "halted", HELD: "held", WAITING: "waiting", RETRYING: "will be tried again"}
_PRIORITY = {HALTED: ERROR, HELD: WARNING}
