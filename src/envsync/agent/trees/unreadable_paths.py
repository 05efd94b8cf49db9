"""Hints on how to give this user read access to paths that it may not read."""

from __future__ import annotations

import os
import shlex

from envsync.agent.server.facts import user_name


def how_to_read_files(top_fd: int, path: bytes) -> str:
    """Return a hint for unreadable files, of which `path`, below the open directory, is one.

    For instance, root's Python leaves compiled files whose mode this user cannot change.
    """
    own = "chmod u+r on them"
    try:
        owner = os.stat(path, dir_fd=top_fd, follow_symlinks=False).st_uid
    except OSError:
        return own
    if owner == os.geteuid():
        return own
    return "they belong to %s, who has to run there: chmod a+r on them" % user_name(owner)


def how_to_read_directory(top_fd: int, path: bytes) -> str:
    """Return a hint for an unreadable directory, such as one made by another member."""
    own = "chmod u+rx on it"
    try:
        status = os.stat(path or b".", dir_fd=top_fd, follow_symlinks=False)
        top = os.readlink(b"/proc/self/fd/%d" % top_fd)
    except OSError:
        return own
    if status.st_uid == os.geteuid():
        return own
    is_shared = status.st_gid in (os.getegid(), *os.getgroups())
    command = "chmod -R %s+rX %s"
    full = shlex.quote(os.fsdecode(os.path.join(top, path)))
    told = user_name(status.st_uid), command % ("g" if is_shared else "a", full)
    return "it belongs to %s, who has to run there: %s" % told
