"""Samples an environment all the time, to find out whether it is ever a mixture or missing.

This is a script that runs on the host. Its arguments are the environment's path and a file, to
which it adds a line for each sample that was not one whole version. It prints its counts when
its input ends.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.integration.push.readers import SLOW_SECONDS, look

PAUSE_SECONDS = 0.03


def watch(top: str, findings: str) -> dict[str, int]:
    samples = slow = wrong = 0
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    while not selector.select(timeout=PAUSE_SECONDS):
        started = time.monotonic()
        found = sample(top)
        if time.monotonic() - started > SLOW_SECONDS:
            # A sample this slow can span several versions, and says nothing about any of them.
            slow += 1
            continue
        samples += 1
        if found:
            wrong += 1
            with Path(findings).open("a") as file:
                file.write(found + "\n")
    return {"samples": samples, "slow": slow, "wrong": wrong}


def sample(top: str) -> str:
    """Return what is wrong with the live environment; empty if it is one whole version."""
    try:
        stamps = look(top)
        program = Path(top, "bin", "python").read_text()
    except OSError as error:
        return str(error)
    lines = program.splitlines()
    if len(lines) != 3 or lines[0] != "#!/bin/sh" or lines[1] != lines[2]:
        return f"bin/python: {program[:200]!r}"
    return "" if len(stamps) == 1 else json.dumps(stamps)


if __name__ == "__main__":
    os.write(1, b"watching\n")
    os.write(1, json.dumps(watch(sys.argv[1], sys.argv[2])).encode() + b"\n")
