"""Ranges of names: `gpu[03-08]`, `gpu[01-03,07]`, `rack[1-2]node[01-16]`."""

from __future__ import annotations

import itertools
import math
import re

MAX_MEMBERS = 1024
"""More than any lab has; a mistake such as `[1-99999999]` must not fill the memory."""

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")

_EXPECTED = "a range such as gpu[03-08] or gpu[01-03,07]"


def is_range(text: str) -> bool:
    """Return whether the text has brackets, well formed or not."""
    return "[" in text or "]" in text


def expand(text: str) -> tuple[str, ...]:
    """Return the names in a range, in the order written; for a plain name, that name alone.

    Zero padding is kept. Several brackets give every combination, the last one varying fastest.
    Raises a `ValueError` whose text completes "expected ...".
    """
    pieces = _BRACKETS.split(text)
    literals, insides = pieces[0::2], pieces[1::2]
    if any(is_range(literal) for literal in literals):
        raise ValueError(f"{_EXPECTED}, with every bracket closed")
    spans = [[_span(part) for part in inside.split(",")] for inside in insides]
    count = math.prod(sum(high - low + 1 for low, high, _ in parts) for parts in spans)
    if count > MAX_MEMBERS:
        raise ValueError(f"a range of at most {MAX_MEMBERS} names")
    choices = [[number for part in parts for number in _numbers(*part)] for parts in spans]
    names = tuple(
        literals[0]
        + "".join(number + literal for number, literal in zip(chosen, literals[1:], strict=True))
        for chosen in itertools.product(*choices)
    )
    if len(set(names)) != len(names):
        raise ValueError("a range that gives each name once")
    return names


def _span(part: str) -> tuple[int, int, int]:
    """Return low, high and padded width (0 for none) of `03-08` or `7`."""
    match = _PART.fullmatch(part.strip())
    if match is None:
        raise ValueError(_EXPECTED)
    low, high = match[1], match[2] or match[1]
    if int(low) > int(high):
        raise ValueError(f"{_EXPECTED}, the smaller number first")
    width = len(low) if _is_padded(low) or _is_padded(high) else 0
    if len(high) < len(low) or (_is_padded(high) and len(high) != len(low)):
        raise ValueError(f"{_EXPECTED}, both ends padded alike")
    return int(low), int(high), width


def _is_padded(digits: str) -> bool:
    return len(digits) > 1 and digits.startswith("0")


def _numbers(low: int, high: int, width: int) -> list[str]:
    return [str(number).zfill(width) for number in range(low, high + 1)]
