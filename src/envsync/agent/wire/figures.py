"""The figures by which an agent reports its progress while it carries out an operation.

Each is sent by its name with a number, which `RemoteEnd` requires: a bool would be lost on the way.
"""

from __future__ import annotations

from typing import Callable

OnFigure = Callable[[str, int], None]
"""Is called with a figure's name and its value now."""

SOURCE_CHANGED = "source_changed"
"""Is 1 once a source that is inspected turns out to be changed, so that it has to be hashed."""
RECEIVING = "receiving"
"""Is 1 once a target that builds before there is a plan begins to receive contents."""
RECEIVED_FILES = "received_files"
HASHED_BYTES = "hash_bytes"
COPIED_BYTES = "copy_bytes"
VERIFIED_BYTES = "verify_bytes"
FREED_BYTES = "freed_bytes"
SIZES = frozenset({HASHED_BYTES, COPIED_BYTES, VERIFIED_BYTES, FREED_BYTES})
"""Those that a progress line shows."""
