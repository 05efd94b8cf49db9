"""Rewrites the contents of a source's files for another path."""

from __future__ import annotations

import errno
import hashlib
from typing import Dict, Iterable, Mapping, Optional, Sequence, Tuple

from envsync.agent.source.verified_read import read, read_verified
from envsync.conda.metadata import is_conda_record, is_pip_record
from envsync.conda.relocated_records import Rewritten, placeholders, with_new_digests
from envsync.conda.relocation import Placeholder, Relocation
from envsync.errors import SourceRefused
from envsync.tree.entry import Entry


class RelocatedContents:
    """Computes the new contents of files from the source's bytes.

    `conda_records` are conda's own records, which say where it left room for a path; `digests`
    are those of the files that contain the old path. The result depends only on a file's content
    and, if that has NULs, on what the records say of it under any of its names. So equal files
    stay equal.

    `files` and `pip_records` are the results, by digest of the old content; `rooms` is what the
    records said of contents with NULs. `records_state` is a digest of all records.
    """

    def __init__(
        self,
        relocation: Relocation,
        conda_records: Sequence[Tuple[bytes, Entry]],
        digests: Mapping[bytes, bytes],
    ) -> None:
        self._relocation = relocation
        self._conda_records = conda_records
        self._digests = digests
        self._placeholders: Optional[Dict[bytes, Placeholder]] = None
        self.files: Dict[bytes, Rewritten] = {}
        self.pip_records: Dict[bytes, Rewritten] = {}
        self.rooms: Dict[bytes, Optional[Placeholder]] = {}
        self.records_state = _state(conda_records)

    def rewrite(self, top_fd: int, path: bytes) -> bytes:
        """Read a file and return its new content, for sending.

        Raises `CannotRelocate` if there is no way to rewrite it, and OSError if it is gone or one
        of conda's records has changed.
        """
        try:
            return self.rewritten(top_fd, path, read(top_fd, path))
        except SourceRefused as error:
            raise OSError(errno.ESTALE, str(error)) from error

    def rewritten(self, top_fd: int, path: bytes, content: bytes) -> bytes:
        """Return the new content of a file with this `content`.

        Raises `CannotRelocate` if there is no way to rewrite it, and `SourceRefused` if conda's
        records change meanwhile.
        """
        placeholder = None
        if b"\0" in content:
            digest = hashlib.sha256(content).digest()
            placeholder = self.rooms[digest] = self.room(top_fd, digest)
        content = self._relocation.rewrite(content, placeholder)
        if is_pip_record(path):
            return with_new_digests(path, content, self.files)
        if is_conda_record(path):
            return with_new_digests(path, content, {**self.files, **self.pip_records})
        return content

    def room(self, top_fd: int, digest: bytes) -> Optional[Placeholder]:
        """Return what conda's records say of a content; None if nothing.

        Raises `SourceRefused` if they have changed.
        """
        if self._placeholders is None:
            by_digest: Dict[bytes, Placeholder] = {}
            for record, entry in self._conda_records:
                for path, placeholder in placeholders(read_verified(top_fd, record, entry)).items():
                    if path in self._digests:
                        by_digest[self._digests[path]] = placeholder
            self._placeholders = by_digest
        return self._placeholders.get(digest)


def _state(records: Iterable[Tuple[bytes, Entry]]) -> str:
    state = hashlib.sha256()
    for path, entry in sorted(records):
        state.update(path + b"\0" + entry.content)
    return state.hexdigest()
