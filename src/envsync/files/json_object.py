"""Reads JSON that anybody may have edited, or a crash may have cut off."""

from __future__ import annotations

import json
from typing import Any, Dict


def json_object(text: bytes) -> Dict[str, Any]:
    """Return the object that a JSON text describes; empty for any other or damaged text."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
