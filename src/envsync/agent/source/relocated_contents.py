"""What a source's files become at another place, from the bytes that they have here."""

from __future__ import annotations

import hashlib
import os
from typing import Dict, Iterable, Mapping, Optional

from envsync.agent.server.reading import READ_FLAGS
from envsync.conda.relocated_records import (
    Rewritten,
    is_conda_record,
    is_pip_record,
    placeholders,
    with_new_digests,
)
from envsync.conda.relocation import Placeholder, Relocation


def read(top_fd: int, path: bytes) -> bytes:
    """A file's content; OSError where it cannot be had."""
    with open(os.open(path, READ_FLAGS, dir_fd=top_fd), "rb") as file:
        return file.read()


class Contents:
    """What files become, from the bytes that the source has.

    `conda_records` are the paths of conda's own records, which say where it left room;
    `digests` are of the files that name the old place. What a file becomes depends on its
    content alone, so that equal files stay equal.
    """

    def __init__(
        self,
        relocation: Relocation,
        conda_records: Iterable[bytes],
        digests: Mapping[bytes, bytes],
    ) -> None:
        self._relocation = relocation
        self._conda_records = tuple(conda_records)
        self._digests = digests
        self._placeholders: Optional[Dict[bytes, Placeholder]] = None
        self.files: Dict[bytes, Rewritten] = {}
        self.pip_records: Dict[bytes, Rewritten] = {}

    def rewrite(self, top_fd: int, path: bytes) -> bytes:
        """A file as it has to be there; `CannotRelocate` where that cannot be had."""
        return self.rewritten(top_fd, path, read(top_fd, path))

    def rewritten(self, top_fd: int, path: bytes, content: bytes) -> bytes:
        """The same, for who has read it."""
        placeholder = None
        if b"\0" in content:
            placeholder = self._room(top_fd).get(hashlib.sha256(content).digest())
        content = self._relocation.rewrite(content, placeholder)
        if is_pip_record(path):
            return with_new_digests(path, content, self.files)
        if is_conda_record(path):
            return with_new_digests(path, content, {**self.files, **self.pip_records})
        return content

    def _room(self, top_fd: int) -> Dict[bytes, Placeholder]:
        """What conda says of contents, by digest."""
        if self._placeholders is None:
            self._placeholders = {}
            for record in self._conda_records:
                for path, placeholder in placeholders(read(top_fd, record)).items():
                    if path in self._digests:
                        self._placeholders[self._digests[path]] = placeholder
        return self._placeholders
