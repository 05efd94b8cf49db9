"""The tasks of workers, and the lines that let a standby worker begin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

START = b"begin"
START_CHANGED = b"begin, it has changed since"
"""Sent instead of `START` if the source has changed since the worker looked at it."""


class DigestCheck(NamedTuple):
    """The change digest with which an environment at `path` need not be scanned."""

    environment: str
    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class Task:
    """Scan environments, push one to servers, or make spare trees of it on servers."""

    environments: tuple[str, ...]
    servers: tuple[str, ...] = ()
    is_settled: bool = False
    """Whether a scanned source was at rest, so that a change found in it need not settle."""
    digest_checks: tuple[DigestCheck, ...] = field(default=(), compare=False)
    awaits_start: bool = field(default=False, compare=False)
    """Whether the worker only gets ready, and waits for `START` or `START_CHANGED`."""
    makes_spare: bool = False
    """Whether to push nothing, but make spare trees for the next push."""

    @property
    def is_push(self) -> bool:
        return bool(self.servers) and not self.makes_spare

    @property
    def is_scan(self) -> bool:
        return not self.servers

    @property
    def verb(self) -> str:
        """The verb for log lines: what a worker with this task does."""
        if self.is_scan:
            return "scans"
        return "prepares it" if self.makes_spare else "pushes"
