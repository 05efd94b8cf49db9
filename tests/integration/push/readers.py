"""A reader on a target that never stops looking: is what stands there ever a mixture?

Run on the host as a script, with the environment's path. Each round opens the directory
once and reads every file through that descriptor. The first precedes the word that it watches,
and the last one follows the end of its input; then it prints one JSON line.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time

NAMES = [f"{number:03}" for number in range(200)]
SLOW_SECONDS = 0.3
"""A mixture in a round that took longer counts only in the last one. Such a round may have
outlived its version, and what comes after: on a busy machine the tree that it holds can be brought
forward by the next push but one."""


def watch(top: str) -> dict[str, object]:
    mixtures: list[object] = []
    rounds = 0
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    has_ended = False
    while not has_ended:
        has_ended = rounds > 0 and bool(selector.select(timeout=0.02))
        started = time.monotonic()
        try:
            stamps = look(top)
        except OSError as error:
            stamps = {str(error): 0}
        is_slow = time.monotonic() - started > SLOW_SECONDS
        is_mixture = len(stamps) != 1 or "Errno" in next(iter(stamps))
        if is_mixture and (has_ended or not is_slow):
            mixtures.append(stamps)
        rounds += 1
        if rounds == 1:
            sys.stdout.write("watching\n")
            sys.stdout.flush()
    return {"rounds": rounds, "mixtures": mixtures[:5]}


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
    sys.stdout.write(json.dumps(watch(sys.argv[1])) + "\n")
