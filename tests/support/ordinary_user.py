"""An ordinary user, as whom a test goes on: root may read and remove everything."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Give up root's privileges within the block, so that permissions count."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@contextlib.contextmanager
def home_of_ordinary_user() -> Iterator[Path]:
    """Yield a directory of an ordinary user, as whom this process runs until the block ends."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        with ordinary_user():
            yield Path(name)
