"""Parses sizes as people write them."""

from __future__ import annotations

import argparse
import re

_UNITS = {"": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}


def byte_count(text: str) -> int:
    """Parse a size such as "800MB" into bytes, for argparse."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(kB|MB|GB)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a size like 800MB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2] or ""])
