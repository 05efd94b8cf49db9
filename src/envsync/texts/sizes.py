"""Formats sizes for people."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(size_bytes: float) -> str:
    """Return `1.9 GB`; the units are decimal, as for disks and networks."""
    unit = 0
    while size_bytes >= 999.5 and unit < len(_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    digits = 1 if unit and size_bytes < 99.95 else 0
    return f"{size_bytes:.{digits}f} {_UNITS[unit]}"
