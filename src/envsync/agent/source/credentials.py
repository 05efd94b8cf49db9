"""Finds the files of a source that contain passwords or tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

from envsync.conda import credential_files
from envsync.tree.entry import FILE, join

if TYPE_CHECKING:
    from envsync.agent.source.version import SourceVersion


def files_with_credentials(source: SourceVersion) -> Tuple[bytes, ...]:
    """Return the paths of a source's files that contain credentials."""
    manifest = source.manifest()
    directories = [d for d in manifest.directories if credential_files.may_be_in(d)]
    paths = [
        join(directory, entry.name)
        for directory in directories
        for entry in manifest.entries(directory)
        if entry.kind == FILE
    ]
    return tuple(
        path
        for path in sorted(filter(credential_files.may_hold_credentials, paths))
        if _holds_some(source, path)
    )


def _holds_some(source: SourceVersion, path: bytes) -> bool:
    content = source.read(path, credential_files.CREDENTIAL_FILE_MAX_BYTES)
    return content is not None and credential_files.holds_credentials(path, content)
