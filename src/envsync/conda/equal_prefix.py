"""One prefix in the place of another of the same length: every byte else stays where it is.

An environment knows its own path: in scripts, in binaries, in `.pyc` files, in records. Where
the new path is as long as the old, it can be written over it in every kind of file, and no
size, offset or padding changes.
"""

from __future__ import annotations

import base64
import re
from typing import Mapping, Match

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])|(?<=sha256=)[A-Za-z0-9_-]{43}")


def rewritten(content: bytes, old: bytes, new: bytes) -> bytes:
    """The content with `new` for every `old`; ValueError where they differ in length."""
    if len(old) != len(new):
        raise ValueError("prefixes of different lengths")
    return content.replace(old, new)


def with_digests(content: bytes, changed: Mapping[bytes, bytes]) -> bytes:
    """A record that names rewritten files by the digests that they have now.

    `changed` has the SHA-256 that each file had before. conda writes them in hexadecimal
    digits, pip in base64 without its padding.
    """

    def digest(match: Match[bytes]) -> bytes:
        text = match.group()
        if len(text) == 64:
            after = changed.get(bytes.fromhex(text.decode()))
            return text if after is None else after.hex().encode()
        after = changed.get(base64.urlsafe_b64decode(text + b"="))
        return text if after is None else base64.urlsafe_b64encode(after).rstrip(b"=")

    return _DIGEST.sub(digest, content)
