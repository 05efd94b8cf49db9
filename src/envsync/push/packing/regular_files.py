"""The files of an unpacked environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def regular_files(top: Path) -> Iterator[tuple[str, int]]:
    """Yield every regular file that is not behind a link, with its size."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(top / below) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{below}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield below + entry.name, entry.stat(follow_symlinks=False).st_size
