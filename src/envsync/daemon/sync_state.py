"""The sync state of each environment on each server, updated by reports; logs what is new."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from envsync.daemon import transitions
from envsync.daemon.assignments import Assignments
from envsync.daemon.log import Log
from envsync.daemon.push_log import log_failure, log_success
from envsync.daemon.rows import HALTED, HELD, IN_STEP, PUSHING, RETRYING, DaemonState, ServerRow
from envsync.daemon.store import Store
from envsync.daemon.worker_messages import PushEnded
from envsync.errors import EnvsyncError


@dataclass(slots=True)
class _Outage:
    """A server that cannot be reached; only one environment at a time, `tried_by`, tries it."""

    attempts: int = 0
    next_try_seconds: float = 0.0
    tried_by: str = ""


class SyncState:
    """The rows of all servers, which only this object changes; `clock` returns wall-clock time."""

    def __init__(
        self,
        store: Store,
        log: Log,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._unreachable: dict[str, _Outage] = {}
        self._queued: dict[tuple[str, str], ServerRow] = {}
        self._latest_seconds = clock()
        self.assignments = Assignments(own="", rescan_seconds=0.0)
        """Those in force; `adopt` sets the first ones."""

    def _now(self) -> float:
        """Return the wall-clock time; if that was set back, move the times of all tries back too.

        Otherwise, a server would wait for as long as the clock was ahead.
        """
        now = self._clock()
        if now < self._latest_seconds:
            self._set_back(self._latest_seconds - now)
        self._latest_seconds = now
        return now

    def _set_back(self, seconds: float) -> None:
        for row in list(self._store.state.servers.values()):
            if row.next_try_seconds is not None:
                self._store.put_server(
                    replace(row, next_try_seconds=row.next_try_seconds - seconds)
                )
        for outage in self._unreachable.values():
            outage.next_try_seconds -= seconds

    def adopt(self, assignments: Assignments) -> set[tuple[str, str]]:
        """Put other assignments in force, and forget servers not in them.

        Return the pairs of environment and server for which the server's name leads elsewhere now.
        """
        self.assignments = assignments
        now = self._now()
        places = {
            (assignment.environment, server): place
            for assignment in assignments.by_name.values()
            for server, place in assignment.places.items()
        }
        for key in [key for key in self._store.state.servers if key not in places]:
            self._store.drop_server(*key)
        moved = set()
        for (environment, server), place in sorted(places.items()):
            row = self._store.state.servers.get((environment, server))
            if row is not None and row.place != place:
                moved.add((environment, server))
                self._unreachable.pop(server, None)
                row = None
            row = row or ServerRow(environment, server, since_seconds=now)
            self._store.put_server(
                transitions.clamped(replace(row, place=place), now, assignments.rescan_seconds)
            )
        return moved

    def servers(self, environment: str) -> list[ServerRow]:
        """Return the rows of an environment's servers, in the inventory's order."""
        rows = self._store.state.servers
        servers = self.assignments.by_name[environment].servers
        return [rows[environment, server] for server in servers]

    def shown(self) -> DaemonState:
        """Return the rows as people are shown them.

        A server of a push that is not worked on yet lags, or is held or halted as before.
        """
        state = self._store.state
        self._queued = {
            key: row
            for key, row in self._queued.items()
            if key in state.servers and state.servers[key].state == PUSHING
        }
        return replace(state, servers={**state.servers, **self._queued})

    # Due work

    def reachable_servers(self, environment: str) -> tuple[str, ...]:
        """Return the servers to push a change to, none that is being pushed to.

        One that cannot be reached is not among them, but lags once the change is known.
        """
        return tuple(
            row.server
            for row in self.servers(environment)
            if row.state != PUSHING and row.server not in self._unreachable
        )

    def due_in_seconds(self, environment: str, revision: str) -> dict[str, float]:
        """Return the seconds until each server is due for a push; infinite without an event.

        `revision` is the source's, as far as is known.
        """
        now = self._now()
        return {
            row.server: self._due_seconds(row, revision) - now for row in self.servers(environment)
        }

    def _due_seconds(self, row: ServerRow, revision: str) -> float:
        due_seconds = transitions.due_seconds(row, revision)
        outage = self._unreachable.get(row.server)
        if outage is None:
            return due_seconds
        # If that try ended for any reason, such as a source not at rest or a changed inventory,
        # another push may try.
        tried = self._store.state.servers.get((outage.tried_by, row.server))
        is_being_tried = tried is not None and tried.state == PUSHING
        return math.inf if is_being_tried else max(due_seconds, outage.next_try_seconds)

    # Reports

    def push_started(self, environment: str, servers: tuple[str, ...]) -> None:
        """Note that a push to these servers begins; `push_begun` says with which of them."""
        for row in self.servers(environment):
            if row.server in servers:
                before = row
                if row.state not in (HELD, HALTED):
                    before = transitions.to_lagging(row, self._now())
                self._queued[environment, row.server] = replace(before, next_try_seconds=None)
                self._store.put_server(transitions.to_pushing(row, self._now()))
                if row.server in self._unreachable:
                    self._unreachable[row.server].tried_by = environment

    def push_begun(self, environment: str, server: str) -> None:
        """Note that a push is at work on this server of its own."""
        self._queued.pop((environment, server), None)

    def source_scanned(self, environment: str, revision: str) -> None:
        """Note that the source has this revision, so that servers with another one lag."""
        for row in self.servers(environment):
            if row.state == IN_STEP and row.revision != revision:
                self._store.put_server(transitions.to_lagging(row, self._now()))

    def push_ended(self, ended: PushEnded) -> None:
        """Note how a push to one server ended."""
        report, error = ended.report, ended.error
        before = self._store.state.servers.get((ended.environment, report.server))
        if before is None:
            return  # it was removed from the inventory meanwhile
        now = self._now()
        if error is None:
            self._answered(report.server, now)
            after = transitions.after_success(
                before, report.revision, now, report.warnings, report.changes
            )
            self._store.put_server(after)
            log_success(self._log, before, after, report)
        elif ended.source_error is not None:
            self._store.put_server(transitions.after_source_failure(before, now))
        else:
            if error.code not in transitions.UNREACHABLE:
                self._answered(report.server, now)
            self._failed(before, error, report.source_revision, now)

    def _failed(
        self, before: ServerRow, error: EnvsyncError, source_revision: str, now: float
    ) -> None:
        after = transitions.after_failure(
            before, error, source_revision, now, self.assignments.rescan_seconds, self._jitter()
        )
        if error.code in transitions.UNREACHABLE:
            after = self._unanswered(after, error, now)
        self._store.put_server(after)
        log_failure(self._log, before, after)

    def _unanswered(self, row: ServerRow, error: EnvsyncError, now: float) -> ServerRow:
        """Delay the next try, at the same pace for all environments of an unreachable server."""
        outage = self._unreachable.setdefault(row.server, _Outage())
        pause_seconds = transitions.pause_after(error.code, outage.attempts, self._jitter())
        outage.attempts += 1
        outage.next_try_seconds = now + pause_seconds
        self._set_next_try(row.server, outage.next_try_seconds)
        return replace(row, next_try_seconds=outage.next_try_seconds)

    def _answered(self, server: str, now: float) -> None:
        """Let the other environments try a server again now, if it was unreachable before."""
        if self._unreachable.pop(server, None) is not None:
            self._set_next_try(server, now)

    def _set_next_try(self, server: str, when_seconds: float) -> None:
        """Set the next try of all environments that could not reach a server."""
        for row in list(self._store.state.servers.values()):
            code = None if row.error is None else row.error.code
            if row.server == server and row.state == RETRYING and code in transitions.UNREACHABLE:
                self._store.put_server(replace(row, next_try_seconds=when_seconds))

    def worker_ended(
        self, environment: str, servers: tuple[str, ...], error: EnvsyncError | None
    ) -> None:
        """Note that a push's worker has ended; servers without a report are tried again.

        They are tried later if the worker failed (`error`), else as soon as the source is at rest.
        """
        now = self._now()
        for row in self.servers(environment):
            if row.server not in servers or row.state != PUSHING:
                continue
            if error is None:
                self._store.put_server(transitions.after_source_failure(row, now))
            else:
                self._failed(row, error, "", now)

    def look_again(self, environment: str, servers: Collection[str]) -> bool:
        """Take these servers for lagging: a push finds out what they have, and does no harm.

        Return whether any of them is one of the environment's.
        """
        rows = [row for row in self.servers(environment) if row.server in servers]
        for row in rows:
            self._unreachable.pop(row.server, None)
            self._store.put_server(transitions.to_lagging(row, self._now()))
        return bool(rows)

    def pushed_by_hand(self, environment: str, revisions: Mapping[str, str]) -> list[str]:
        """Note which revision of the source a person has pushed to these servers.

        Return those of them that are the environment's.
        """
        rows = [row for row in self.servers(environment) if row.server in revisions]
        for row in rows:
            after = transitions.after_success(row, revisions[row.server], self._now())
            self._store.put_server(after)
        return [row.server for row in rows]

    def retry_now(self, environment: str) -> None:
        """Make all servers that are not in step due now, because a person asked for it."""
        for row in self.servers(environment):
            self._unreachable.pop(row.server, None)
            if row.state not in (PUSHING, IN_STEP):
                self._store.put_server(replace(row, next_try_seconds=self._now(), attempts=0))
