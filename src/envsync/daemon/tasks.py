"""The tasks of workers, as values, and the line that starts one made ready ahead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

START = b"begin"
START_CHANGED = b"begin, it has changed since"
"""The same for a source that changed after the worker had looked at it."""


class DigestCheck(NamedTuple):
    """A scan that is spared where the digest of what stands at the path is still that one."""

    environment: str
    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class Task:
    """Scan these environments, push one to these servers, or make those ready for the next push."""

    environments: tuple[str, ...]
    servers: tuple[str, ...] = ()
    is_settled: bool = False
    """Whether a scan is of a source that had come to rest: what it finds need not settle."""
    digest_checks: tuple[DigestCheck, ...] = field(default=(), compare=False)
    awaits_start: bool = field(default=False, compare=False)
    """Whether it is to be made ready only, and to begin when it is started."""

    makes_spare: bool = False
    """Whether nothing is to be pushed, but a tree made for the next push to be built on."""

    @property
    def is_push(self) -> bool:
        return bool(self.servers) and not self.makes_spare

    @property
    def is_scan(self) -> bool:
        return not self.servers

    @property
    def verb(self) -> str:
        """What a process does that carries it out."""
        if self.is_scan:
            return "scans"
        return "makes it" if self.makes_spare else "pushes"
