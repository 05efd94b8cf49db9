"""Two names for one place: a host may be in the inventory twice, or servers share a filesystem.

The pushes to both meet at one lock. One of them is served, and the other finds it done.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence

from envsync.agent.wire.messages import TargetState
from envsync.errors import Locked
from envsync.push.ends.target_end import TargetEnd

_GONE_SECONDS = 10.0
"""So long after a push is over its agent may hold the lock: it is told to end, and does."""
_ASK_SECONDS = 0.05


class PushesOfOneCommand:
    """Safe to share between threads. `command` is what a lock tells them by; empty for a single
    push, which meets no other of its own."""

    def __init__(self, servers: Sequence[str]) -> None:
        self.command = secrets.token_hex(16) if len(servers) > 1 else ""
        self._over = {server: threading.Event() for server in servers}

    def over(self, server: str) -> None:
        """The push to this server has ended, whatever became of it."""
        self._over[server].set()

    def stop(self) -> None:
        """Let nobody wait any longer."""
        for event in self._over.values():
            event.set()

    def await_lock(self, target: TargetEnd, look: Callable[[], TargetState]) -> TargetState:
        """What `look` finds, which takes the lock there: where another of these pushes has it,
        when that one is over. `Locked` where it is anybody else's."""
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
