"""The place where an environment is being built, and the removal of what a build left there.

STATE/side.json has its name before it exists, so that the next push can remove what was left
there. STATE/side-wanted.txt lists what the tool is asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Iterable, Iterator, List, Optional, Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.places.members import is_foreign
from envsync.agent.places.state_files import read_json, remove_file
from envsync.agent.trees.removal import remove_tree
from envsync.errors import PreflightRefused
from envsync.tree.environment_name import BASE

NOTE = "side.json"
_WANTED = "side-wanted.txt"
"""conda's tools recognize a file of specs by the suffix `.txt`."""
_NAME_MIN = 4
_DIGITS = "0123456789"
_DRAWN = re.compile(rf"\.[0-9]{{{_NAME_MIN - 1},}}\Z")
"""Only digits, because in a prefix or a home directory nothing else has such a name."""


def built_at(layout: Layout) -> Optional[bytes]:
    """Return the path of an unfinished build, or None.

    The note may be another member's, and what it names will be removed. So it has only a name,
    which `unused_place` must be able to draw, and whose length tells the directory.
    """
    document = read_json(layout.file(NOTE))
    name = document.get("name") if isinstance(document, dict) else None
    if layout.name == BASE or not isinstance(name, str) or not _DRAWN.match(name):
        return None
    parents = [parent for parent, length in _parents(layout.path) if length == len(name)]
    return os.path.join(parents[0], name.encode()) if parents else None


def unfinished(layout: Layout) -> List[bytes]:
    """Return the paths that an unfinished build has left."""
    built = built_at(layout)
    paths = [layout.file(_WANTED), *([] if built is None else [built])]
    return [path for path in paths if os.path.lexists(path)]


@contextlib.contextmanager
def wanted_file(layout: Layout, lines: Iterable[str]) -> Iterator[str]:
    """Write lines to a private file for a tool; it is removed after the block or by `discard`."""
    path = layout.file(_WANTED)
    remove_file(path)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        yield os.fsdecode(path)
    finally:
        remove_file(path)


def discard(layout: Layout) -> None:
    """Remove what an earlier build left, unless it belongs to another user."""
    wanted, note = layout.file(_WANTED), layout.file(NOTE)
    if os.path.lexists(wanted):
        remove_file(wanted)
    if not os.path.lexists(note):
        return
    path = built_at(layout)
    if path is not None and os.path.lexists(path):
        if is_foreign(path):
            return
        remove_tree(path)
    remove_file(note)


def unused_place(final: bytes) -> bytes:
    """Return an unused path as long as the final one, preferably on the package cache's disk."""
    import secrets  # and with it `random` and `hmac`: every push imports this module

    for parent, length in _parents(final):
        if length < _NAME_MIN or not os.access(parent, os.W_OK | os.X_OK):
            continue
        while True:
            digits = "".join(secrets.choice(_DIGITS) for _ in range(length - 1))
            path = os.path.join(parent, b"." + digits.encode())
            if not os.path.lexists(path):
                return path
    name, prefix = os.fsdecode(os.path.basename(final)), os.fsdecode(_parents(final)[0][0])
    raise PreflightRefused(
        f"cannot build {name} there: {prefix} is not writable",
        hint="have the owner of the prefix push it, or, where the platforms are the same, use "
        "--method mirror",
    )


def _parents(final: bytes) -> Tuple[Tuple[bytes, int], Tuple[bytes, int]]:
    """Return the prefix and `envs`, each with the name length that makes a path as long."""
    envs, name = os.path.split(final)
    prefix = os.path.dirname(envs)
    return (prefix, len(final) - len(prefix) - 1), (envs, len(name))
