"""Where envsync keeps what is a user's own, as the XDG base directory specification says.

For agents, daemons and commands alike: they look into the same files.
"""

from __future__ import annotations

import contextlib
import os
from typing import Mapping, Optional

_OURS = "envsync"


def home(environ: Mapping[str, str]) -> str:
    """The user's home, by the account where no variable says it; empty where there is none."""
    if "HOME" in environ:
        return environ["HOME"]
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_dir
    return ""


def state_directory(environ: Mapping[str, str]) -> Optional[str]:
    """What cannot be found out anew; None for a user without a home."""
    return _ours(state_home(environ))


def cache_directory(environ: Mapping[str, str]) -> Optional[str]:
    """What can; None for a user without a home."""
    return _ours(cache_home(environ))


def state_home(environ: Mapping[str, str]) -> Optional[str]:
    """Where all programs keep their state."""
    return _base(environ, "XDG_STATE_HOME", ".local/state")


def cache_home(environ: Mapping[str, str]) -> Optional[str]:
    """Where all programs have their caches."""
    return _base(environ, "XDG_CACHE_HOME", ".cache")


def _base(environ: Mapping[str, str], variable: str, usual: str) -> Optional[str]:
    """The variable's directory, which is to be ignored where it is relative, else the usual."""
    given = environ.get(variable, "")
    base = given if os.path.isabs(given) else os.path.join(home(environ), usual)
    return base if os.path.isabs(base) else None


def _ours(base: Optional[str]) -> Optional[str]:
    return None if base is None else os.path.join(base, _OURS)
