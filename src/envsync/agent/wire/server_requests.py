"""Requests about all environments of a server."""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple


class AskEnvironments(NamedTuple):
    """Asks for the environments of `prefix`.

    `local` are the paths that belong to the server; `local_of` has those of single environments.
    """

    prefix: str
    local: Tuple[str, ...]
    local_of: Dict[str, Tuple[str, ...]]


class Collect(NamedTuple):
    """Asks to free what is no longer needed.

    `keep_of` and `local_of` are for environments with their own settings. `command` and `server`
    identify its locks (`PushLock.of_command`).
    """

    prefix: str
    by: str
    keep: int
    keep_of: Dict[str, int]
    local: Tuple[str, ...]
    local_of: Dict[str, Tuple[str, ...]]
    drifted: bool
    dry_run: bool
    command: str = ""
    server: str = ""
