"""Reads a source's files and checks them against the manifest."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Iterable, Iterator

from envsync.agent.server.reading import READ_FLAGS, closing_fd
from envsync.agent.trees.directory_read import open_directory
from envsync.errors import Hint, SourceRefused
from envsync.tree.entry import Entry


@contextlib.contextmanager
def opened_source(path: bytes) -> Iterator[int]:
    """Open a source's directory; `SourceRefused` if it is gone by now."""
    try:
        top_fd = open_directory(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise source_changed([path]) from error
    with closing_fd(top_fd):
        yield top_fd


def read(top_fd: int, path: bytes) -> bytes:
    """Return a file's content; OSError if it cannot be read."""
    with open(os.open(path, READ_FLAGS, dir_fd=top_fd), "rb") as file:
        return file.read()


def read_verified(top_fd: int, path: bytes, entry: Entry) -> bytes:
    """Return a file's content; `SourceRefused` unless its digest is the entry's."""
    try:
        content = read(top_fd, path)
    except OSError as error:
        raise source_changed([path]) from error
    if hashlib.sha256(content).digest() != entry.content:
        raise source_changed([path])
    return content


def source_changed(paths: Iterable[bytes]) -> SourceRefused:
    """Return the error for a source that is written to while it is read."""
    return SourceRefused(
        "it changed while it was read",
        details=[os.fsdecode(path) for path in sorted(paths)[:10]],
        hint=Hint("[[push again when it is at rest]]"),
    )
