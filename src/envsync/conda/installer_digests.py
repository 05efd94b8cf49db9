"""Reads the SHA-256 digests that conda and pip recorded of the files that they installed.

They are hints, never proof: files change after their installation, and records can be wrong.
Code that copies a file because of such a digest hashes the copy.
"""

from __future__ import annotations

import base64
from typing import Any, Iterator, Tuple

from envsync.conda.metadata import path_bytes, record_rows
from envsync.files.json_object import json_object

FileDigest = Tuple[bytes, bytes]
"""A relative path as recorded, and the SHA-256 of the file there."""

_DIGEST_BYTES = 32


def in_conda_record(content: bytes) -> Iterator[FileDigest]:
    """Yield the digests in a `conda-meta` record, or in `info/paths.json` of the package cache.

    If conda wrote the prefix into a file, a record has the digest of the file as installed,
    `paths.json` as packaged.
    """
    document = json_object(content)
    paths_data = document.get("paths_data", document)
    noted = paths_data.get("paths") if isinstance(paths_data, dict) else None
    if not isinstance(noted, list):
        return
    for row in noted:
        path, digest = _of_row(row)
        if path and b"\0" not in path and len(digest) == _DIGEST_BYTES:
            yield path, digest


def _of_row(row: Any) -> FileDigest:
    if not isinstance(row, dict) or not isinstance(row.get("_path"), str):
        return b"", b""
    noted = row.get("sha256_in_prefix") or row.get("sha256")
    try:
        return path_bytes(row["_path"]), bytes.fromhex(str(noted))
    except (TypeError, ValueError):
        return b"", b""


def in_pip_record(content: bytes) -> Iterator[FileDigest]:
    """Yield the digests in a `.dist-info/RECORD`; paths are relative to its site-packages."""
    for path, noted, *_ in (row for row in record_rows(content) if len(row) > 1):
        algorithm, _, value = noted.partition("=")
        digest = of_base64(value) if algorithm == "sha256" else b""
        if len(digest) == _DIGEST_BYTES and "\0" not in path:
            yield path_bytes(path), digest


def of_base64(text: str) -> bytes:
    """Return a digest as pip records it; b"" if it is damaged."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
