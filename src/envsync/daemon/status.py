"""The daemon's status, as `envsync status` and `systemctl status` show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from envsync import __version__
from envsync.agent.wire.checked_json import to_json
from envsync.daemon.rows import (
    HALTED,
    HELD,
    IN_STEP,
    DaemonState,
    ErrorFacts,
    ServerRow,
    SourceRow,
)
from envsync.daemon.transitions import without_sync
from envsync.daemon.triggers import NO_ACTIVITY, Activity

AT_REST, SETTLING, PAUSED = "at rest", "settling", "paused"


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What the status says of the daemon itself.

    `pid` is None if none runs; the status is then what the last daemon knew.
    """

    pid: int | None = None
    since_seconds: float | None = None
    inventory: str = ""
    inventory_error: ErrorFacts | None = None
    trouble: str = ""
    service_trouble: str = ""
    polled: Mapping[str, str] | None = None


def summary(states: Iterable[str]) -> str:
    """Return how many copies of environments are in step, and how many are in which other state."""
    counts = Counter(states)
    others = [f"{count} {name}" for name, count in sorted(counts.items()) if name != IN_STEP]
    return ", ".join([f"{counts[IN_STEP]} of {counts.total()} copies in step", *others])


def sentence(
    state: DaemonState, activities: Mapping[str, Activity], inventory_error: ErrorFacts | None
) -> str:
    """Return one sentence for `systemctl status`; `activities` is what goes on in each source."""
    if inventory_error is not None:
        return f"the inventory is refused: {inventory_error.message}"
    sources = list(state.followed.values())
    broken = [(row.environment, row.error.message) for row in sources if row.error is not None]
    rows = list(state.servers.values())
    halted = [row for row in rows if row.state in (HALTED, HELD)]
    number = len(sources)
    text = f"{number} environment{'' if number == 1 else 's'}"
    if paused := sum(row.paused for row in sources):
        text += f" ({paused} paused)"
    text += f", {summary(row.state for row in rows)}"
    busy = [(name, activity.busy) for name, activity in activities.items() if activity.busy]
    for name, who in busy[:1]:
        text += f"; {name}: waiting for {who}"
    for name, why in broken[:1]:
        text += f"; {name}: {why}"
    for row in halted[:1]:
        why = "" if row.error is None else row.error.message
        text += f"; {row.environment} -> {row.server} {row.state}: {why}"
    return text


def document(
    state: DaemonState, activities: Mapping[str, Activity], facts: DaemonFacts
) -> dict[str, Any]:
    """Return the whole status, JSON-ready; without a daemon, there are no `activities`."""
    polled = facts.polled or {}
    rows = [
        row if facts.pid is not None else replace(row, error=without_sync(row))
        for row in state.servers.values()
    ]
    return {
        "daemon": {
            "running": facts.pid is not None,
            "pid": facts.pid,
            "version": None if facts.pid is None else __version__,
            "since_seconds": facts.since_seconds,
            "inventory": facts.inventory,
            "inventory_error": to_json(facts.inventory_error),
            "trouble": facts.trouble,
            "service_trouble": facts.service_trouble,
        },
        "environments": [
            _source(
                source,
                _activity(source, activities.get(name, NO_ACTIVITY)),
                polled.get(name, ""),
                sorted(
                    (row for row in rows if row.environment == name),
                    key=lambda row: row.server,
                ),
            )
            for name, source in sorted(state.followed.items())
        ],
    }


def _activity(row: SourceRow, activity: Activity) -> str:
    if activity.busy:
        return f"waiting for {activity.busy}"
    if row.paused:
        return PAUSED
    if not activity.is_at_rest and not row.is_unfinished:
        return SETTLING
    return AT_REST


def _source(row: SourceRow, activity: str, polled: str, servers: list[ServerRow]) -> dict[str, Any]:
    return {
        "environment": row.environment,
        "revision": row.revision,
        "checked_seconds": row.checked_seconds or None,
        "activity": activity,
        "paused": row.paused,
        "polled": polled,
        "error": to_json(row.error),
        "servers": [_server(server) for server in servers],
    }


def _server(row: ServerRow) -> dict[str, Any]:
    return {
        "server": row.server,
        "state": row.state,
        "revision": row.revision,
        "since_seconds": row.since_seconds,
        "next_try_seconds": row.next_try_seconds,
        "attempts": row.attempts,
        "error": to_json(row.error),
        "warnings": list(row.warnings),
        "changes": list(row.changes),
    }
