"""Updates the records of conda and pip about files that a relocation rewrote.

The records name each file's SHA-256. A digest that was right before is replaced by the new one;
one that was wrong already stays. A file that was as packaged, with conda's placeholder in place of
the prefix, gets the digest that it has with the prefix. Records are edited as text, so
that the layout of the tool that wrote them is kept.
"""

from __future__ import annotations

import base64
import contextlib
import re
from typing import Dict, Iterator, Mapping, Match, NamedTuple, Optional, Pattern

from envsync.conda.metadata import is_conda_record
from envsync.conda.relocation import BINARY, TEXT, Placeholder
from envsync.files.json_object import json_object

# A JSON object without objects in it; braces inside strings do not count.
_FLAT_OBJECT = re.compile(rb'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')
_DECLARED = b'"prefix_placeholder"'
_IN_PREFIX = re.compile(rb'("sha256_in_prefix"\s*:\s*")([0-9a-f]{64})(")')
_PACKAGED = re.compile(rb'("sha256"\s*:\s*")([0-9a-f]{64})(")')
_SIZE = re.compile(rb'("size_in_bytes"\s*:\s*)(\d+)')
_RECORD_HASH = re.compile(rb"sha256=([A-Za-z0-9_-]{43}),(\d+)")


class Rewritten(NamedTuple):
    """A rewritten file: its size before, and its SHA-256 and size now."""

    old_size_bytes: int
    digest: bytes
    size_bytes: int


ByDigest = Mapping[bytes, Rewritten]
"""Rewritten files by their SHA-256 before."""


def with_new_digests(path: bytes, content: bytes, rewritten: ByDigest) -> bytes:
    """Return the content of a conda or pip record with the new digests and sizes."""
    if not rewritten:
        return content
    if is_conda_record(path):
        return _FLAT_OBJECT.sub(lambda found: _conda_entry(found, rewritten), content)
    return _RECORD_HASH.sub(lambda found: _pip_hash(found, rewritten), content)


def _conda_entry(found: Match[bytes], rewritten: ByDigest) -> bytes:
    entry = found.group()
    file = _described(_IN_PREFIX, entry, rewritten)
    was_as_installed = file is not None
    if file is None and _DECLARED in entry:
        file = _described(_PACKAGED, entry, rewritten)
    if file is None:
        return entry
    digest, old_size, new_size = file.digest.hex(), file.old_size_bytes, file.size_bytes
    entry = _IN_PREFIX.sub(rb"\g<1>%s\g<3>" % digest.encode(), entry)
    # conda records the size as packaged, rattler as installed.
    size = _SIZE.search(entry)
    if size is not None and (int(size.group(2)) == old_size) is was_as_installed:
        entry = _SIZE.sub(rb"\g<1>%d" % new_size, entry)
    return entry


def _described(pattern: Pattern[bytes], entry: bytes, rewritten: ByDigest) -> Optional[Rewritten]:
    digest = pattern.search(entry)
    return None if digest is None else rewritten.get(bytes.fromhex(digest.group(2).decode()))


def _pip_hash(found: Match[bytes], rewritten: ByDigest) -> bytes:
    file = rewritten.get(base64.urlsafe_b64decode(found.group(1) + b"="))
    if file is None or found.group(2) != b"%d" % file.old_size_bytes:
        return found.group()
    digest = base64.urlsafe_b64encode(file.digest).rstrip(b"=")
    return b"sha256=%s,%d" % (digest, file.size_bytes)


class Declaration(NamedTuple):
    """Conda's record that the package's file at `path` has `prefix` in place of the prefix."""

    path: bytes
    prefix: bytes
    mode: str


def placeholders(content: bytes) -> Dict[bytes, Placeholder]:
    """Return the files, by path, into which conda wrote the prefix according to a record."""
    return {file.path: Placeholder(file.mode, len(file.prefix)) for file in declarations(content)}


def declarations(content: bytes) -> Iterator[Declaration]:
    """Yield the files into which conda wrote the prefix according to a record."""
    if _DECLARED not in content:
        return
    for match in _FLAT_OBJECT.finditer(content):
        if _DECLARED in match.group():
            yield from _declaration(match.group())


def _declaration(entry: bytes) -> Iterator[Declaration]:
    document = json_object(entry)
    path, text, mode = (document.get(key) for key in ("_path", "prefix_placeholder", "file_mode"))
    if isinstance(path, str) and isinstance(text, str) and text and mode in (TEXT, BINARY):
        # JSON can spell a lone surrogate, which is in no file's name.
        with contextlib.suppress(UnicodeEncodeError):
            prefix = text.encode("utf-8", "surrogatepass")
            yield Declaration(path.encode("utf-8", "surrogateescape"), prefix, mode)
