"""What the daemon knows of each source, and of each environment on each server: values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

IN_STEP = "in-step"
LAGGING = "lagging"
PUSHING = "pushing"
RETRYING = "retrying"
WAITING = "waiting"
HELD = "held"
HALTED = "halted"

ErrorDocument = Mapping[str, Any]
"""An error, as `EnvsyncError.to_json` gives it."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source. `tolerated` are remains of installers that a person or a first check accepted,
    `unfinished` what the last check found half done: as long as it says so, so does `error`.

    It `is_unchecked` from the first hint of a change until a check finds it whole, which takes
    the `packages` that are there for whole (`InstallCheck.accepted`; `path` is where they stand).
    """

    environment: str
    revision: str = ""
    checked_seconds: float = 0.0
    paused: bool = False
    tolerated: tuple[str, ...] = ()
    error: ErrorDocument | None = None
    unfinished: tuple[str, ...] = ()
    is_unchecked: bool = False
    path: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One environment on one server.

    `revision` is the source's version that was last seen to stand there, `refused` the one
    that it is held or halted at. `since_seconds` is when it came into this state, for one that
    lags when it began to. `place` is where the server's name led to (`Assignment.places`).
    """

    environment: str
    server: str
    state: str = LAGGING
    revision: str = ""
    refused: str = ""
    since_seconds: float = 0.0
    next_try_seconds: float | None = None
    attempts: int = 0
    error: ErrorDocument | None = None
    place: str = ""


@dataclass(slots=True)
class Contents:
    """All rows, by what they are about."""

    sources: dict[str, SourceRow] = field(default_factory=dict)
    servers: dict[tuple[str, str], ServerRow] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def together(kept: Contents, since: Contents) -> Contents:
    """What was kept, with what was found out before it could be read.

    Of what has been dropped meanwhile nothing comes back.
    """
    sources, servers = dict(kept.sources), dict(kept.servers)
    if since.sources:
        sources = {
            name: _source_since(row, sources.get(name)) for name, row in since.sources.items()
        }
        servers = {
            key: servers[key] if key in servers and _is_untried(row) else row
            for key, row in since.servers.items()
        }
    return Contents(sources, servers, {**kept.about, **since.about})


def _source_since(row: SourceRow, kept: SourceRow | None) -> SourceRow:
    if kept is None:
        return row
    return replace(
        row,
        revision=row.revision or kept.revision,
        checked_seconds=max(row.checked_seconds, kept.checked_seconds),
        paused=row.paused or kept.paused,
        tolerated=tuple(sorted({*row.tolerated, *kept.tolerated})),
    )


def _is_untried(row: ServerRow) -> bool:
    new = ServerRow(row.environment, row.server, place=row.place)
    return row == replace(new, since_seconds=row.since_seconds)
