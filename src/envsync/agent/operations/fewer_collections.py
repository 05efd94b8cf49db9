"""Tunes Python's cyclic garbage collector."""

from __future__ import annotations

import gc

_OBJECTS = 100_000


def collect_rarely() -> None:
    """Have this process collect cycles far less often than Python would.

    Scans and manifests consist of tuples and bytes by the hundred thousand, which have no cycles;
    looking for some took a tenth of a push's processor time.
    """
    gc.set_threshold(_OBJECTS, 100, 100)
