"""Saves the traceback of a bug to a file, for the person who is asked to report it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from envsync import __version__
from envsync.files.directories import state_directory
from envsync.texts.redaction import redacted

_KEPT = 20


def save_traceback(error: BaseException, environ: Mapping[str, str]) -> Path | None:
    """Save the traceback without credentials, and return its file; None if it cannot be written."""
    with contextlib.suppress(OSError, MemoryError):
        directory = _directory(environ)
        for old in sorted(directory.glob("crash-*.txt"))[: -_KEPT + 1]:
            old.unlink(missing_ok=True)
        name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        text = redacted("".join(traceback.format_exception(error)))
        about = f"envsync {__version__}, Python {sys.version.split()[0]}\n\n"
        (directory / name).write_text(about + text, encoding="utf-8", errors="backslashreplace")
        return directory / name
    return None


def _directory(environ: Mapping[str, str]) -> Path:
    """Return the user's state directory, or a new temporary one for a user without a home."""
    state = state_directory(environ)
    if state is None:
        return Path(tempfile.mkdtemp(prefix="envsync-"))
    directory = Path(state)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory
