"""What installers leave in an environment while they change it, or when they die in it."""

from __future__ import annotations

import re
from typing import Iterable, List, NamedTuple, Tuple

from envsync.conda.metadata import HISTORY, SITE_PACKAGES

YOUNG_SECONDS = 600.0
"""A leftover younger than this can belong to an installer that we cannot see."""

_LEFTOVER = re.compile(
    rb"(" + SITE_PACKAGES + rb"/~[^/]*|(?:.*/)?\.condatmp|.*\.c~)(?:/.*)?",
    re.DOTALL,
)


class BusySign(NamedTuple):
    """A sign that an environment is busy; `blocking` if it forbids a push instead of warning."""

    message: str
    path: bytes
    blocking: bool


def signs(paths: Iterable[Tuple[bytes, float]], now_seconds: float) -> Tuple[BusySign, ...]:
    """Return every sign in an environment; empty if there is none.

    `paths` are all its relative paths (or those for which `is_sign` is true), each with the
    newer of its mtime and ctime in seconds: a renamed directory keeps its mtime, so that by mtime
    pip's `~numpy` looks as old as numpy was.
    """
    result = []
    leftovers, has_history = _leftovers(paths)
    for path, changed_seconds in leftovers:
        is_young = abs(now_seconds - changed_seconds) < YOUNG_SECONDS
        message = f"an installer left {path.decode('utf-8', 'backslashreplace')}"
        result.append(BusySign(message, path, blocking=is_young))
    if not has_history:
        result.append(BusySign("it has no conda-meta/history", HISTORY, blocking=True))
    return tuple(result)


def _leftovers(paths: Iterable[Tuple[bytes, float]]) -> Tuple[List[Tuple[bytes, float]], bool]:
    """Return what installers left, with the newest change in each, and whether a history exists."""
    has_history = False
    changes = []
    for path, changed_seconds in paths:
        has_history = has_history or path == HISTORY
        match = _LEFTOVER.fullmatch(path) if is_sign(path) else None
        if match:
            changes.append((match.group(1), changed_seconds))
    youngest = dict(sorted(changes))
    return sorted(youngest.items()), has_history


def is_sign(path: bytes) -> bool:
    """Return whether `signs` needs this relative path."""
    # Called for every path of an environment, so the cheap tests come first.
    if b"~" in path or b".condatmp" in path:
        return _LEFTOVER.fullmatch(path) is not None
    return path == HISTORY
