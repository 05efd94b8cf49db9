"""The user's own directories on a server."""

from __future__ import annotations

import os
from typing import Mapping, Optional

from envsync.files.directories import cache_directory


def content_directory(environ: Mapping[str, str]) -> Optional[str]:
    """Return the directory of the content cache, or None for a user without a home."""
    directory = cache_directory(environ)
    return None if directory is None else os.path.join(directory, "content")
