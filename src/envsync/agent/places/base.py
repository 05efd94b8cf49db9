"""Conda's base in a prefix: whether it can be installed there, and what is in its way."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import List, Optional

from envsync.agent.places.layout import Layout
from envsync.agent.wire.messages import IN_THE_WAY, READ_ONLY, Finding
from envsync.conda.metadata import HISTORY
from envsync.errors import listed

OWN_ENTRIES = ("envs", "pkgs", ".envsync", "lost+found")
"""Entries of a prefix that every server has of its own. They are no part of conda's base, and in
nobody's way."""

_SHOWN = 5


def is_conda_prefix(prefix: bytes) -> bool:
    """Return whether it is one of conda, mamba or micromamba; True also if it cannot be read.

    It has packages in `conda-meta`, or nothing beside that but environments, as micromamba makes
    it. An installer that was killed may leave other entries, but no package.
    """
    try:
        names = os.listdir(os.path.join(prefix, b"conda-meta"))
        has_packages = any(name.endswith(b".json") for name in names)
        return has_packages or obstacles(prefix) == ["conda-meta"]
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def has_conda(prefix: bytes) -> bool:
    """Return whether there is a conda in the prefix, or another Python, which may be in use."""
    is_python = os.path.lexists(os.path.join(prefix, b"bin/python"))
    is_begun = os.path.lexists(os.path.join(prefix, HISTORY))
    return is_conda_prefix(prefix) or (is_python and not is_begun)


def obstacles(prefix: bytes) -> List[str]:
    """Return the names in the prefix that are in the way of a conda: all except `OWN_ENTRIES`."""
    return sorted(
        os.fsdecode(name) for name in os.listdir(prefix) if os.fsdecode(name) not in OWN_ENTRIES
    )


def can_take_conda(layout: Layout) -> bool:
    """Return whether conda's base can be installed into the existing directory."""
    prefix = layout.live
    return os.path.isdir(prefix) and not has_conda(prefix) and not obstacles(prefix)


def obstacle_finding(layout: Layout) -> Optional[Finding]:
    """Return what forbids installing conda's base into the existing directory, or None."""
    where = os.fsdecode(layout.live)
    try:
        names = obstacles(layout.live)
    except PermissionError:
        return Finding(READ_ONLY, f"{where} is not readable", blocking=True)
    if names:
        message = f"{where} has no conda, but contains other entries: {listed(names, _SHOWN)}"
        return Finding(IN_THE_WAY, message, blocking=True)
    if not os.access(layout.live, os.W_OK | os.X_OK):
        return Finding(READ_ONLY, f"{where} is not writable", blocking=True)
    return None


def make_room_for_environments(base: bytes, prefix: bytes) -> None:
    """Make the directories in a base that will hold environments and packages.

    They are open to the same users as the prefix, if that exists: it was prepared for them. But not
    everybody may write in them, because others run what is there.
    """
    mode, group = 0o755, -1  # as conda makes them
    with contextlib.suppress(FileNotFoundError):
        prepared = os.stat(prefix)
        mode, group = stat.S_IMODE(prepared.st_mode) & ~stat.S_IWOTH, prepared.st_gid
    for name in (b"envs", b"pkgs"):
        path = os.path.join(base, name)
        os.makedirs(path, exist_ok=True)
        try:
            os.chown(path, -1, group)
        except PermissionError:  # this user is not in the group, so its rights are not for theirs
            mode &= 0o755
        os.chmod(path, mode)
