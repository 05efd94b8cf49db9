"""The locks that one command takes on several servers, where two names may lead to one place.

A host may be in the inventory twice, or servers may share a filesystem. Pushes of one command to
the same place then compete for one lock: one is served, and the other finds the work done.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence

from envsync.agent.wire.messages import TargetState
from envsync.errors import Locked
from envsync.push.ends.target_end import TargetEnd

_GONE_SECONDS = 30.0
"""How long an agent may still hold the lock after its push is over and it was told to end."""
_ASK_SECONDS = 0.05


class CommandLocks:
    """The locks that one command holds on several servers. Safe to share between threads.

    `command` identifies the command in its locks. It is empty for a single server, where the
    command cannot compete with itself.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self.command = secrets.token_hex(16) if len(servers) > 1 else ""
        self._over = {server: threading.Event() for server in servers}

    def over(self, server: str) -> None:
        """Note that the work on this server has ended, whatever its outcome."""
        self._over[server].set()

    def stop(self) -> None:
        """Let all waiting threads go on."""
        for event in self._over.values():
            event.set()

    def await_lock(self, target: TargetEnd, look: Callable[[], TargetState]) -> TargetState:
        """Return what `look`, which takes the lock on the target, finds.

        If the same command holds the lock for another server, wait until that server's work is
        over. Raises `Locked` if anybody else holds it, or if it is held even `_GONE_SECONDS` later.
        """
        deadlines: dict[str, float] = {}
        while True:
            try:
                return look()
            except Locked:
                other = target.locked_for() if self.command else ""
                if other == target.server or other not in self._over:
                    raise
                self._over[other].wait()
                now = time.monotonic()
                if now > deadlines.setdefault(other, now + _GONE_SECONDS):
                    raise
            time.sleep(_ASK_SECONDS)
