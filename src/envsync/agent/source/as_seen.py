"""A source's files as a manifest has them, while somebody may be writing to it."""

from __future__ import annotations

import hashlib
import os
from typing import Iterable

from envsync.agent.server.reading import READ_FLAGS
from envsync.errors import SourceRefused
from envsync.tree.entry import Entry


def read(top_fd: int, path: bytes) -> bytes:
    """A file's content; OSError where it cannot be had."""
    with open(os.open(path, READ_FLAGS, dir_fd=top_fd), "rb") as file:
        return file.read()


def read_as_is(top_fd: int, path: bytes, entry: Entry) -> bytes:
    """A file's content, for certain the one that the manifest has; else `SourceRefused`."""
    try:
        content = read(top_fd, path)
    except OSError as error:
        raise changing([path]) from error
    if hashlib.sha256(content).digest() != entry.content:
        raise changing([path])
    return content


def changing(paths: Iterable[bytes]) -> SourceRefused:
    """What ends a relocation of a source that is being written to."""
    return SourceRefused(
        "it changed while it was read",
        details=[os.fsdecode(path) for path in sorted(paths)[:10]],
        hint="push again when it is at rest",
    )
