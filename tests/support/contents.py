"""Files by their contents, as a transfer is given them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envsync.agent.trees.directory_read import open_directory
from envsync.tree.entry import FILE, Entry, split
from tests.support.disk import memory

Files = dict[bytes, bytes]


def entry(path: bytes, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(split(path)[1], FILE, mode, len(data), 10**18, hashlib.sha256(data).digest())


@contextmanager
def directory(files: Files | None = None) -> Iterator[int]:
    """An open directory with these files."""
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        for path, data in (files or {}).items():
            (Path(name) / os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / os.fsdecode(path)).write_bytes(data)
        fd = open_directory(os.fsencode(name))
        try:
            yield fd
        finally:
            os.close(fd)
