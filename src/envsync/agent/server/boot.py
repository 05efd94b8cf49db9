"""Identifies the current boot of the machine."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=None)
def boot_id() -> str:
    """Return the kernel's ID of this boot, or "" if unknown; cached, as no process outlives it."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
