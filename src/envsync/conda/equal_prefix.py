"""Replaces a prefix by another of the same length, so that every other byte stays in place.

Scripts, binaries, `.pyc` files and records of an environment contain its path. If the new path
is as long as the old one, it can be written over it in every kind of file: no size, offset or
padding changes.
"""

from __future__ import annotations


def rewritten(content: bytes, old: bytes, new: bytes) -> bytes:
    """Return the content with `new` for every `old`; ValueError if their lengths differ."""
    if len(old) != len(new):
        raise ValueError("prefixes of different lengths")
    return content.replace(old, new)
