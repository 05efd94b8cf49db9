"""JSON documents with a checksum, so that damage on the disk is noticed.

One wrong digit of an inode would make a switch one that never happened, and of a revision hold
another one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict

_DIGEST = "digest"


def with_checksum(document: Dict[str, Any]) -> Dict[str, Any]:
    """The document with a checksum over its content added."""
    return {**document, _DIGEST: _digest(document)}


def verified(document: Any) -> Dict[str, Any]:
    """The content of a document whose checksum is right; else ValueError."""
    if not isinstance(document, dict):
        raise ValueError("no document")  # noqa: TRY004 - it came from a file
    content = {name: value for name, value in document.items() if name != _DIGEST}
    if document.get(_DIGEST) != _digest(content):
        raise ValueError("a damaged document")
    return content


def has_checksum(document: Dict[str, Any]) -> bool:
    """Whether the document has a checksum: those of earlier releases may not."""
    return _DIGEST in document


def _digest(content: Dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
