"""The user's own directories on a server."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Optional


def home(environ: os._Environ[str] | Dict[str, str]) -> str:
    """The user's home, by the account where no variable says it; empty where there is none."""
    if "HOME" in environ:
        return environ["HOME"]
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_dir
    return ""


def cache_directory(environ: os._Environ[str] | Dict[str, str]) -> Optional[str]:
    """Where the content cache is kept; None for a user without a home."""
    base = environ.get("XDG_CACHE_HOME") or ""
    if not base and home(environ):
        base = os.path.join(home(environ), ".cache")
    return os.path.join(base, "envsync", "content") if os.path.isabs(base) else None
