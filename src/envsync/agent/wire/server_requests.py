"""Requests about all environments of a server."""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple


class AskEnvironments(NamedTuple):
    """Asks for the environments of `prefix`. `local` are the paths that belong to the server;
    `local_of` names further ones for the environments that have them."""

    prefix: str
    local: Tuple[str, ...]
    local_of: Dict[str, Tuple[str, ...]]


class Collect(NamedTuple):
    """Free what nobody needs: `keep_of` and `local_of` are for the environments that have their
    own. `command` and `server` are what its locks are told by (`PushLock.of_command`)."""

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
