"""What can be the name of an environment."""

from __future__ import annotations

BASE = "base"
"""conda's own name for its prefix."""


def is_environment_name(name: str) -> bool:
    """Return whether `name` can be an environment's: one path component, nothing odd.

    `base` cannot: it is conda itself, and a push would replace the conda that other environments of
    the target depend on.
    """
    if not name or name in (BASE, ".", "..") or name[0] in "-.":
        return False
    return "/" not in name and name.isprintable() and len(name.encode()) <= 200
