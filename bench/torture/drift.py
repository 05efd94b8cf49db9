"""Changes that people make by hand to an environment on the target."""

from __future__ import annotations

import os
import random
from pathlib import Path

BEFORE, DURING, LATER = "before", "during", "late"
"""When a file was added; the first part of its name."""


def apply(kind: str, top: Path, number: int) -> None:
    """Change something that the sampler does not compare; `number` makes the content unique."""
    chance = random.Random(number)
    moving = next(path for path in sorted(top.iterdir()) if path.name.startswith("moving-"))
    files = sorted(moving.iterdir())
    text = f"round {number}\n"
    match kind:
        case "edit":
            path = chance.choice(files)
            path.unlink()
            path.write_text(text)
        case "in-place":
            _in_place(top / "conda-meta" / "padding", number)
        case "append":
            with (top / "conda-meta" / "history").open("a") as file:
                file.write(text)
        case "remove":
            chance.choice(files).unlink()
            (top / "conda-meta" / "removed").write_text(text)
        case _:
            add(top, BEFORE, number)


def add(top: Path, when: str, number: int) -> bytes:
    """Add a file; return its path in the environment."""
    name = f"{when}-{number:06}"
    (top / name).write_text(f"made by hand in round {number}\n")
    return name.encode()


def _in_place(path: Path, number: int) -> None:
    """Change bytes in place, with the same size, inode and mtime, as a bad tool does."""
    status = path.stat()
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, b"%08d" % number, 0)
    finally:
        os.close(fd)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
