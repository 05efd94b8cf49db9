"""Opening a file safely that anybody may replace at any time."""

from __future__ import annotations

import contextlib
import os
from typing import Optional

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Never through a link that has come into its place, nor waiting for who writes to a pipe."""


def read_start(path: bytes, size_bytes: int) -> Optional[bytes]:
    """At most so many bytes of a file's start; None where it cannot be read."""
    with contextlib.suppress(OSError), open(os.open(path, READ_FLAGS), "rb") as file:
        return file.read(size_bytes)
    return None
