"""Requests to a target."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import DirectoryIdentity


class OpenTarget(NamedTuple):
    """Which environment it is: `name` in `prefix`, or the prefix itself where it `is_base`.

    `local` are the paths that belong to the server, `by` is who asks. `command` and `server`
    are what its lock is told by (`PushLock.of_command`); both may be empty.
    """

    prefix: str
    name: str
    local: Tuple[str, ...]
    by: str
    is_base: bool = False
    command: str = ""
    server: str = ""


class InspectTarget(NamedTuple):
    """With `lock`, nobody else pushes until the end is closed. `source` is where the source
    stands, for a push; with `keep`, what a version will be built on is looked at as well."""

    lock: bool
    source: Optional[DirectoryIdentity] = None
    keep: Optional[int] = None


class AskReferences(NamedTuple):
    """Before a manifest is sent; with `keep`, what a version will be built on is looked at."""

    keep: Optional[int] = None


class AskExisting(NamedTuple):
    """Whether these are there; relative paths are not looked for."""

    paths: Tuple[str, ...]


class AskDifferences(NamedTuple):
    """Against the manifest in the payload, `packed` or not, else against the record."""

    paths_max: int
    packed: bool = False
