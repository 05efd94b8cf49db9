"""JSON documents with a checksum, so that damage on the disk is noticed.

One wrong digit in an inode would make a switch look as if it had never happened; one in a revision
would hold another version.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict

_DIGEST = "digest"


def with_checksum(document: Dict[str, Any]) -> Dict[str, Any]:
    """Return the document with a checksum of its content added."""
    return {**document, _DIGEST: _digest(document)}


def verified(document: Any) -> Dict[str, Any]:
    """Return the content of a document. Raises ValueError if its checksum is wrong or missing."""
    if not isinstance(document, dict):
        raise ValueError("no document")  # noqa: TRY004 - it came from a file
    content = {name: value for name, value in document.items() if name != _DIGEST}
    if document.get(_DIGEST) != _digest(content):
        raise ValueError("a damaged document")
    return content


def _digest(content: Dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
