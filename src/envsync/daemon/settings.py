"""What the daemon was started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The inventory's `file`, and what says which of its servers this machine is.

    `as_name` is the name given by `--as`.
    """

    file: Path
    as_name: str | None
    hostname: str
    environ: Mapping[str, str]
