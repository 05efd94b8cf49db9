"""Compares an unpacked environment's files with the digests that conda and pip recorded.

For an archive without a checksum, nothing else shows whether it is damaged. It must be done before
anything is rewritten. It shows nothing about a file without a recorded digest, a file whose prefix
`conda-pack` may have rewritten, or bytecode, which Python itself rewrites.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from envsync.conda.installer_digests import of_base64
from envsync.conda.metadata import record_rows
from envsync.push.packing.regular_files import regular_files

_CONDA_RECORD = re.compile(r"conda-meta/[^/]+\.json")
_PIP_RECORD = re.compile(r"(.+/)?site-packages/[^/]+\.dist-info/RECORD")
_BLOCK_BYTES = 1 << 20


class _Claim(NamedTuple):
    """What a file should be. Without digests it claims nothing."""

    path: str
    size_bytes: int
    digests: tuple[str, ...]


def differing(top: Path) -> list[str]:
    """Return the files that have the length that their packages recorded, but another content.

    A file of another length was edited, or is another installer's: damage to an archive changes no
    length. If several packages have a file, one that agrees is enough.
    """
    sizes = {path: size for path, size in regular_files(top) if not path.endswith(".pyc")}
    claims = defaultdict(list)
    for claim in _claims_of_conda(top, sizes):
        claims[claim.path].append(claim)
    # conda's own installer may have rewritten files of a RECORD inside a conda package. For conda's
    # files such a RECORD counts only where pip may have put its own in their place.
    condas = frozenset(claims)
    for claim in _claims_of_pip(top, sizes):
        if claim.path not in condas or claim.size_bytes == sizes[claim.path]:
            claims[claim.path].append(claim)
    return sorted(
        path for path, of_it in claims.items() if _is_something_else(top, path, sizes[path], of_it)
    )


def _is_something_else(top: Path, path: str, size_bytes: int, claims: Iterable[_Claim]) -> bool:
    claims = list(claims)
    if not all(claim.digests and claim.size_bytes == size_bytes for claim in claims):
        return False
    digest = hashlib.sha256()
    with (top / path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return not any(digest.hexdigest() in claim.digests for claim in claims)


def _claims_of_conda(top: Path, sizes: Mapping[str, int]) -> Iterator[_Claim]:
    for record in filter(_CONDA_RECORD.fullmatch, sizes):
        try:
            listed = json.loads((top / record).read_bytes())["paths_data"]["paths"]
        except (KeyError, TypeError, ValueError, RecursionError):
            continue
        for one in listed if isinstance(listed, list) else ():
            path = one.get("_path") if isinstance(one, dict) else None
            if isinstance(path, str) and path in sizes:
                yield _claim_of_conda(path, one)


def _claim_of_conda(path: str, one: Mapping[str, object]) -> _Claim:
    """Return what a file should be: as in its package, or as conda made it.

    The prefix in a text file may have changed since, so nothing is claimed about one.
    """
    size_bytes = one.get("size_in_bytes")
    is_text = bool(one.get("prefix_placeholder")) and one.get("file_mode") != "binary"
    if is_text or type(size_bytes) is not int:
        return _Claim(path, -1, ())
    said = (one.get("sha256"), one.get("sha256_in_prefix"))
    return _Claim(path, size_bytes, tuple(text for text in said if type(text) is str and text))


def _claims_of_pip(top: Path, sizes: Mapping[str, int]) -> Iterator[_Claim]:
    """Yield claims about files below `site-packages`.

    Scripts elsewhere name an interpreter by its path.
    """
    for record in filter(_PIP_RECORD.fullmatch, sizes):
        where = posixpath.dirname(posixpath.dirname(record))
        rows = record_rows((top / record).read_bytes())
        for name, said, size in (row for row in rows if len(row) == 3):
            kind, _, digest = said.partition("=")
            path = posixpath.join(where, name)
            if path in sizes and kind == "sha256" and re.fullmatch("[0-9]{1,18}", size):
                yield _Claim(path, int(size), _as_hex(digest))


def _as_hex(digest: str) -> tuple[str, ...]:
    decoded = of_base64(digest)
    return (decoded.hex(),) if len(decoded) == hashlib.sha256().digest_size else ()
