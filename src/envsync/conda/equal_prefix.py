"""Replaces a prefix by another of the same length, so that every other byte stays in place.

An environment knows its own path: in scripts, in binaries, in `.pyc` files, in records. Where
the new path is as long as the old, it can be written over it in every kind of file, and no
size, offset or padding changes.
"""

from __future__ import annotations


def rewritten(content: bytes, old: bytes, new: bytes) -> bytes:
    """The content with `new` for every `old`; ValueError where they differ in length."""
    if len(old) != len(new):
        raise ValueError("prefixes of different lengths")
    return content.replace(old, new)
