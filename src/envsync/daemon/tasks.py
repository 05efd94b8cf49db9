"""The tasks of workers, and the lines that let a standby worker begin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

from envsync.agent.wire.checked_json import from_json, to_json

START = b"begin"
START_CHANGED = b"begin, it has changed since"
"""Sent instead of `START` if the source has changed since the worker looked at it."""


class Task(NamedTuple):
    """Scan environments, push one to servers, or make spare trees of it on servers."""

    environments: tuple[str, ...]
    servers: tuple[str, ...] = ()
    is_settled: bool = False
    """Whether a scanned source was at rest, so that a change found in it need not settle."""
    awaits_start: bool = False
    """Whether the worker only gets ready, and waits for `START` or `START_CHANGED`."""
    makes_spare: bool = False
    """Whether to push nothing, but make spare trees for the next push."""

    def argv(self, inventory: Path, own: str) -> list[str]:
        """Return the command line of a worker with this task, on the machine of that name."""
        argv = [sys.executable, "-m", "envsync", "--config", str(inventory), "daemon", "work"]
        return [*argv, "--as", own, "--task", json.dumps(to_json(self))]

    @classmethod
    def parse(cls, text: str) -> Task:
        """Return the task in a worker's command line; an older daemon may lack some members."""
        return from_json(cls, json.loads(text))

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
