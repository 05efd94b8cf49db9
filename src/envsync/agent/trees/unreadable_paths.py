"""Hints on how to give this user read access to paths that it may not read."""

from __future__ import annotations

import os
import shlex
from typing import Sequence

from envsync.agent.server.facts import user_name


def how_to_read_files(top_fd: int, paths: Sequence[bytes]) -> str:
    """Return a hint for unreadable files below the open directory.

    For instance, root's Python leaves compiled files whose mode this user cannot change.
    """
    if len(paths) == 1:
        return _how_to_read(top_fd, paths[0], paths[0], "it belongs")
    return _how_to_read(top_fd, paths[0], b"", "they belong")


def how_to_read_directory(top_fd: int, path: bytes) -> str:
    """Return a hint for an unreadable directory, such as one made by another member."""
    return _how_to_read(top_fd, path, path, "it belongs")


def _how_to_read(top_fd: int, path: bytes, below: bytes, belongs: str) -> str:
    """Return a hint that makes everything `below` readable, as the owner of `path`."""
    try:
        top = os.readlink(b"/proc/self/fd/%d" % top_fd)
        status = os.stat(path or b".", dir_fd=top_fd, follow_symlinks=False)
    except OSError:  # it is gone, or there is no /proc
        return "make it readable for this user"
    full = shlex.quote(os.fsdecode(os.path.join(top, below).rstrip(b"/")))
    command = "chmod -R %s+rX " + full
    if status.st_uid == os.geteuid():
        return command % "u"
    is_shared = status.st_gid in (os.getegid(), *os.getgroups())
    told = belongs, user_name(status.st_uid), command % ("g" if is_shared else "a")
    return "%s to %s, who has to run there: %s" % told
