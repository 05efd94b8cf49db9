"""Asks a program for its version."""

from __future__ import annotations

import re
import subprocess
from typing import Optional

_SECONDS = 10.0
_SAID_MAX = 4096


def version_of(program: str) -> str:
    """Return a program's version, from the first line that `--version` prints; "" if none."""
    match = re.search(r"\d+(?:\.\d+)+\w*", version_text(program).partition("\n")[0])
    return "" if match is None else match.group()


def version_text(program: str) -> str:
    """Return the start of what `--version` prints; "" if it cannot be run or takes too long."""
    return answer_of(program, "--version") or ""


def answer_of(program: str, *arguments: str) -> Optional[str]:
    """Return the start of what a program prints, "" if it cannot be run.

    None if it does not end in time.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError:
        return ""
    return done.stdout[:_SAID_MAX].decode("utf-8", "replace")
