"""The daemon's warning of an unfinished install, for a push by hand."""

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
"""A daemon that waits for a dead disk holds up no push."""


def install_warning(
    request: PushRequest, environment: Environment, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """The warning that the daemon has seen an installation begin there and not end.

    Such a package cannot be told from one that somebody has copied there, but by who saw the
    installer. Nothing where no daemon watches it here, or none answers.
    """
    if not environment.watch or request.source.open_link is not None:
        return ()
    # Only now: most pushes need nothing of the daemon's.
    from envsync.daemon.control import ask
    from envsync.daemon.paths import DaemonPaths

    answer = None
    with contextlib.suppress(EnvsyncError):
        path: Path = DaemonPaths.of(environ, socket.gethostname()).announced_socket()
        answer = ask(path, {"verb": "status"}, within_seconds=_WITHIN_SECONDS)
    for known in (answer or {}).get("status", {}).get("environments", ()):
        error = known["error"] or {}
        if known["environment"] == environment.name and error.get("code") == InstallUnfinished.code:
            said = f"{error['message']}, says the daemon, which holds it back"
            return (f"{said}; this push takes what is there",)
    return ()
