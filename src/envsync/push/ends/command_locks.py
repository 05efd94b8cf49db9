"""Locks that one command takes on several servers, where two names may lead to one place.

A host may be in the inventory twice, or servers share a filesystem. What one command does in both
meets at one lock. One is served, and the other finds it done.

What one command does in both meets at one lock. One is served, and the other finds it done.
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
"""So long after all is done its agent may hold the lock: it is told to end, and does."""
_ASK_SECONDS = 0.05


class CommandLocks:
    """The locks that one command holds on several servers. Safe to share between threads.
    `command` is what a lock tells it by; empty for a single server, which meets no other of its
    own."""

    def __init__(self, servers: Sequence[str]) -> None:
        self.command = secrets.token_hex(16) if len(servers) > 1 else ""
        self._over = {server: threading.Event() for server in servers}

    def over(self, server: str) -> None:
        """Note that what is done on this server has ended, whatever became of it."""
        self._over[server].set()

    def stop(self) -> None:
        """Release everybody who waits."""
        for event in self._over.values():
            event.set()

    def await_lock(self, target: TargetEnd, look: Callable[[], TargetState]) -> TargetState:
        """What `look` finds, which takes the lock there: where the same command has it for another
        server, when that one is over. `Locked` where it is anybody else's."""
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
