"""Measures a link's rate by sending a little over it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from envsync.agent.wire.transfer_operations import PROBE
from envsync.transport.job import Job

_PROBE_SECONDS = 0.25
_PROBE_BYTES_MAX = 16 << 20
_BLOCK_BYTES = 256 << 10


def bytes_per_second(job: Job) -> float:
    """Return the link's rough rate, a round trip included.

    It sends for 0.25 s (at most 16 MiB), and waits until all of that has arrived.
    """
    sent_bytes = 0

    def blocks() -> Iterator[bytes]:
        nonlocal sent_bytes
        block = os.urandom(_BLOCK_BYTES)
        while sent_bytes < _PROBE_BYTES_MAX and time.monotonic() - started < _PROBE_SECONDS:
            sent_bytes += len(block)
            yield block

    started = time.monotonic()
    job.target.ask(PROBE, None, blocks())
    return sent_bytes / max(time.monotonic() - started, 1e-6)
