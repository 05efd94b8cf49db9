"""JSON documents that show whether they are whole: one wrong digit of an inode would make a switch
one that never happened, and of a revision hold another one."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict

_DIGEST = "digest"


def sealed(document: Dict[str, Any]) -> Dict[str, Any]:
    """The document with a digest of all that is in it."""
    return {**document, _DIGEST: _digest(document)}


def unsealed(document: Any) -> Dict[str, Any]:
    """What was sealed; ValueError where that is not what this is."""
    if not isinstance(document, dict):
        raise ValueError("no sealed document")  # noqa: TRY004 - it came from a file
    content = {name: value for name, value in document.items() if name != _DIGEST}
    if document.get(_DIGEST) != _digest(content):
        raise ValueError("a damaged document")
    return content


def is_sealed(document: Dict[str, Any]) -> bool:
    """Whether it says that it is: what earlier releases left may not."""
    return _DIGEST in document


def _digest(content: Dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
