"""Durations and rates as people write them: `10s`, `1h30m`, `200Mbit`.

As in `names`, the text of a `ValueError` completes "expected ...".
"""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|min|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern}\s*)+")
_MAX_SECONDS = 366 * 86400.0

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:([kKmMgGtT]?)([bB]it|B)(?:/s)?)")
_MIN_BITS_PER_SECOND = 8_000
"""At less than a kilobyte a second no push would ever finish; the unit is probably a mistake."""


def duration_seconds(text: str) -> float:
    """Return the seconds of `500ms`, `10s`, `5m`, `1h30m`, `2d`; a bare number is in seconds."""
    text = text.strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(
            float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text)
        )
    else:
        raise ValueError("a duration such as 10s, 5m or 1h")
    if seconds > _MAX_SECONDS:
        raise ValueError("a duration of at most a year")
    return seconds


def positive_duration_seconds(text: str) -> float:
    seconds = duration_seconds(text)
    if seconds <= 0:
        raise ValueError("a duration longer than 0 s, such as 10s, 5m or 1h")
    return seconds


def bits_per_second(text: str) -> int:
    """Return the bits per second of `200Mbit` or `25MB` (bytes), with or without `/s`; decimal."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a rate such as 200Mbit (bits a second) or 25MB (bytes a second)")
    per_unit = 8 if match[3] == "B" else 1
    bits = round(float(match[1]) * _FACTORS[match[2].lower()] * per_unit)
    if bits < _MIN_BITS_PER_SECOND:
        raise ValueError("a rate of at least 8kbit, such as 200Mbit")
    return bits
