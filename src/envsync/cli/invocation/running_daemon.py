"""This user's daemon on this machine, if one runs: what a command by hand asks it and tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envsync.errors import EnvsyncError, InstallUnfinished

if TYPE_CHECKING:
    from envsync.inventory.model import Environment

_WITHIN_SECONDS = 1.0
"""The longest wait for the daemon, which may be stuck on a dead disk."""


def install_warning(environment: Environment, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the daemon's warning that an install in the environment was not completed.

    Only a process that saw the installer can tell such a package from one that was copied there.
    Empty if there is no such install, or no daemon here that watches the environment and answers.
    """
    answer = _asked(environment, environ, {"verb": "status"})
    for known in answer.get("status", {}).get("environments", ()):
        error = known["error"] or {}
        if known["environment"] == environment.name and error.get("code") == InstallUnfinished.code:
            return (f"{error['message']}, so the daemon does not push it, but this push does",)
    return ()


@contextlib.contextmanager
def tell_daemon_after(
    environment: Environment, servers: Sequence[str], environ: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Have the daemon look at the environment on these servers once the block has ended.

    The block may have changed what is there. Without this, `envsync status` would show what was
    there before until the daemon's next try or rescan. The block may fill in on which servers it
    left which revision of the environment here: the daemon takes that where it does not push now.
    """
    pushed: dict[str, str] = {}
    request = {"verb": "look", "environments": [environment.name], "servers": [*servers]}
    try:
        yield pushed
    finally:  # it may have ended with an error, or by Ctrl-C, on some of the servers
        if servers:
            # A copy, because a push may still end in a thread.
            _asked(environment, environ, {**request, "pushed": {**pushed}})


def _asked(
    environment: Environment, environ: Mapping[str, str], request: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the daemon's answer, or nothing if none watches the environment and answers."""
    if not environment.watch:
        return {}
    # Imported here because most commands do not need the daemon.
    from envsync.daemon.control import ask_daemon

    with contextlib.suppress(EnvsyncError):
        return ask_daemon(environ, request, within_seconds=_WITHIN_SECONDS) or {}
    return {}
