"""Asks a program for its version."""

from __future__ import annotations

import contextlib
import re
import subprocess
from typing import NamedTuple

_SECONDS = 10.0
_SAID_MAX = 4096


class ToolFacts(NamedTuple):
    """A program that is there; `version` is empty where it does not say."""

    name: str
    path: str
    version: str


def version_of(program: str) -> str:
    """A program's version, by the first line that it prints when asked for it."""
    found = re.search(r"\d+(?:\.\d+)+\w*", version_text(program).partition("\n")[0])
    return "" if found is None else found.group()


def version_text(program: str, *arguments: str) -> str:
    """The beginning of what it prints, by default for `--version`.

    Empty where it does not run or end.
    """
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, *(arguments or ("--version",))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
        return done.stdout[:_SAID_MAX].decode("utf-8", "replace")
    return ""
