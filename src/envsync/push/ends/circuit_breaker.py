"""A circuit breaker for direct sends: after several tries without an answer, no more are made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from envsync.agent.wire.source_operations import ReachFacts

_SILENCE_SECONDS = 10.0
_SILENT_MAX = 2


class CircuitBreaker:
    """Lets a source try to reach targets by itself, until that is known to be futile.

    A firewall that drops the source's connections makes every target time out anew. Once several
    tries have ended in silence and none has succeeded, no more are made. Safe to share between
    threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._silent = 0
        self._got_in = False

    def call(self, attempt: Callable[[], ReachFacts]) -> ReachFacts:
        """Return what the attempt finds; once the circuit is open, a failure without an attempt."""
        if self._silent >= _SILENT_MAX and not self._got_in:
            return ReachFacts(-1, "it got no answer from other servers either")
        began_seconds = self._clock()
        found = attempt()
        was_silent = self._clock() - began_seconds > _SILENCE_SECONDS
        with self._lock:
            self._got_in = self._got_in or found.which >= 0
            self._silent += found.which < 0 and was_silent
        return found
