"""What a program of this server says when it is asked for its version."""

from __future__ import annotations

import contextlib
import subprocess

_SECONDS = 10.0
_SAID_MAX = 4096


def version_text(program: str) -> str:
    """The beginning of what `program --version` prints; empty where it does not run or end."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
        return done.stdout[:_SAID_MAX].decode("utf-8", "replace")
    return ""
