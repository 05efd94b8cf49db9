"""The daemon's knowledge of each source and of each environment on each server, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from envsync.daemon.installer_runs import InstallerRun
from envsync.errors import EnvsyncError, InstallUnfinished

IN_STEP = "in-step"
LAGGING = "lagging"
PUSHING = "pushing"
RETRYING = "retrying"
WAITING = "waiting"
HELD = "held"
HALTED = "halted"


class ErrorFacts(NamedTuple):
    """An error as a value, with the members that `EnvsyncError.to_json` has."""

    code: str
    exit_code: int
    server: str | None
    message: str
    hint: str
    details: tuple[str, ...]

    @classmethod
    def of(cls, error: EnvsyncError) -> ErrorFacts:
        message, hint, details = error.message, error.hint, error.details
        return cls(error.code, error.exit_code, error.server, message, hint, details)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source.

    `tolerated` are installers' leftovers that a person or the first check accepted.
    `is_unchecked` is true from the first hint of a change until a check finds the source
    complete. Such a check accepts what stands at `path` then, at `accepted_seconds`, and forgets
    the `installers` that were seen (`InstallCheck.runs`).
    The row of one that left the inventory is kept, because it can come back, but not followed.
    """

    environment: str
    revision: str = ""
    checked_seconds: float = 0.0
    paused: bool = False
    tolerated: tuple[str, ...] = ()
    error: ErrorFacts | None = None
    is_unchecked: bool = False
    path: str = ""
    installers: tuple[InstallerRun, ...] = ()
    accepted_seconds: float = 0.0
    is_followed: bool = True

    @property
    def is_unfinished(self) -> bool:
        """Whether the last check found something half done, which is its `error` then."""
        return self.error is not None and self.error.code == InstallUnfinished.code


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One environment on one server.

    `revision` is the source's revision last seen on the server, `refused` the one for which it is
    held or halted. `since_seconds` is when the present state began, for a server that lags when
    the lag began. `stopped_seconds` is when it was held or halted first, without a success since;
    0.0 if it was not. `place` is what the server's name led to (`Assignment.places`). `warnings`
    are those about `revision` there, and `changes` what could not be had in its rebuild.
    """

    environment: str
    server: str
    state: str = LAGGING
    revision: str = ""
    refused: str = ""
    since_seconds: float = 0.0
    next_try_seconds: float | None = None
    attempts: int = 0
    error: ErrorFacts | None = None
    stopped_seconds: float = 0.0
    place: str = ""
    warnings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(slots=True)
class DaemonState:
    """All rows: sources by environment, and servers by environment and server.

    `inventory` is the path of the daemon's inventory file.
    """

    sources: dict[str, SourceRow] = field(default_factory=dict)
    servers: dict[tuple[str, str], ServerRow] = field(default_factory=dict)
    inventory: str = ""

    @property
    def followed(self) -> dict[str, SourceRow]:
        """The sources that are in the inventory."""
        return {name: row for name, row in self.sources.items() if row.is_followed}
