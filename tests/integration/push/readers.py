"""A reader on a target that never stops looking: is what stands there ever a mixture?

Run on the host as a script, with the environment's path. Each round opens the directory
once and reads every file through that descriptor. Prints one JSON line when its input ends.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time

NAMES = [f"{number:03}" for number in range(200)]
SLOW_SECONDS = 0.3
"""A round that took longer may have outlived its version, and what comes after: on a busy
machine the tree that it holds can be brought forward by the next push but one."""


def watch(top: str) -> dict[str, object]:
    mixtures: list[object] = []
    seen: list[str] = []
    rounds = slow = 0
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    while not selector.select(timeout=0.02):
        started = time.monotonic()
        try:
            stamps = look(top)
        except OSError as error:
            stamps = {str(error): 0}
        if time.monotonic() - started > SLOW_SECONDS:
            slow += 1
            continue
        rounds += 1
        if len(stamps) != 1 or "Errno" in next(iter(stamps)):
            mixtures.append(stamps)
        elif [next(iter(stamps))] != seen[-1:]:
            seen.extend(stamps)
    return {"rounds": rounds, "slow": slow, "mixtures": mixtures[:5], "seen": seen}


def look(top: str) -> dict[str, int]:
    """How many files carry each stamp, by one descriptor of the directory."""
    stamps: dict[str, int] = {}
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in NAMES:
            file = os.open(f"stamps/{name}", os.O_RDONLY, dir_fd=fd)
            content = os.read(file, 1 << 16)
            os.close(file)
            for part in (content[:16], content[-16:]):
                stamp = part.decode(errors="replace")
                stamps[stamp] = stamps.get(stamp, 0) + 1
    finally:
        os.close(fd)
    return stamps


if __name__ == "__main__":
    sys.stdout.write("watching\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(watch(sys.argv[1])) + "\n")
