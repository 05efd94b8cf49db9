"""What the daemon was started with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from envsync.daemon.tasks import Task


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The inventory's `file`, and what says which of its servers this machine is.

    `as_name` is the name given by `--as`. `argv` returns the command line of a worker, given its
    task, the inventory's path and this machine's name.
    """

    file: Path
    as_name: str | None
    hostname: str
    environ: Mapping[str, str]
    argv: Callable[[Task, Path, str], list[str]]
