"""The directories for a user's own envsync files, by the XDG base directory specification.

Agents, daemons and commands all use these, and so find the same files.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Mapping, Optional

_OURS = "envsync"


def home(environ: Mapping[str, str]) -> str:
    """Return the user's home: `$HOME`, else the account's; "" where there is none."""
    if "HOME" in environ:
        return environ["HOME"]
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_dir
    return ""


def state_directory(environ: Mapping[str, str]) -> Optional[str]:
    """Return the directory for data that cannot be recomputed; None for a user without a home."""
    return _ours(state_home(environ))


def cache_directory(environ: Mapping[str, str]) -> Optional[str]:
    """Return the directory for data that can be recomputed; None for a user without a home."""
    return _ours(cache_home(environ))


def content_directory(environ: Mapping[str, str]) -> Optional[str]:
    """Return the directory of the content cache; None for a user without a home."""
    directory = cache_directory(environ)
    return None if directory is None else os.path.join(directory, "content")


def unpacked_directory(environ: Mapping[str, str]) -> Optional[str]:
    """Return the directory where archives are unpacked; None for a user without a home.

    A link in its place is followed where only this user can have put it.
    """
    directory = cache_directory(environ)
    if directory is None:
        return None
    path = os.path.join(directory, "unpacked")
    with contextlib.suppress(OSError):
        status = os.stat(directory)
        if status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return os.path.realpath(path)
    return path


def state_home(environ: Mapping[str, str]) -> Optional[str]:
    """Return the base directory for all programs' state; None for a user without a home."""
    return _base(environ, "XDG_STATE_HOME", ".local/state")


def cache_home(environ: Mapping[str, str]) -> Optional[str]:
    """Return the base directory for all programs' caches; None for a user without a home."""
    return _base(environ, "XDG_CACHE_HOME", ".cache")


def _base(environ: Mapping[str, str], variable: str, usual: str) -> Optional[str]:
    """Return the directory that `variable` names, else `usual` under the home; None without either.

    The specification says to ignore a relative path in the variable.
    """
    given = environ.get(variable, "")
    base = given if os.path.isabs(given) else os.path.join(home(environ), usual)
    return base if os.path.isabs(base) else None


def _ours(base: Optional[str]) -> Optional[str]:
    return None if base is None else os.path.join(base, _OURS)
