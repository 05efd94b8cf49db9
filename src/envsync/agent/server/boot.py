"""Identifies the current boot of the machine."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=None)
def boot_id() -> str:
    """The kernel's name for this boot, which no process outlives; empty where it does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
