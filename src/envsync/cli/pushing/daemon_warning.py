"""The daemon's warning about an unfinished install, for a push by hand."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from envsync.errors import EnvsyncError, InstallUnfinished

if TYPE_CHECKING:
    from envsync.cli.pushing.request import PushRequest
    from envsync.inventory.model import Environment

_WITHIN_SECONDS = 1.0
"""The longest wait for the daemon, which may be stuck on a dead disk."""


def install_warning(
    request: PushRequest, environment: Environment, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the daemon's warning that an install in the environment was not completed.

    Only a process that saw the installer can tell such a package from one that was copied there.
    Empty if there is no such install, or no daemon here that watches the environment and answers.
    """
    if not environment.watch or request.source.open_link is not None:
        return ()
    # Imported here because most pushes do not need the daemon.
    from envsync.daemon.control import ask
    from envsync.daemon.paths import DaemonPaths

    answer = None
    with contextlib.suppress(EnvsyncError):
        path: Path = DaemonPaths.of(environ, socket.gethostname()).announced_socket()
        answer = ask(path, {"verb": "status"}, within_seconds=_WITHIN_SECONDS)
    for known in (answer or {}).get("status", {}).get("environments", ()):
        error = known["error"] or {}
        if known["environment"] == environment.name and error.get("code") == InstallUnfinished.code:
            return (f"{error['message']}, so the daemon does not push it, but this push does",)
    return ()
