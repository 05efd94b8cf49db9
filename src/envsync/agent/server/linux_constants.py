"""Constants of Linux that an interpreter lacks if it was built against an old C library.

As conda's often are, wherever they run. The values are the same on every architecture that conda
has packages for.
"""

from __future__ import annotations

import os

O_PATH: int = getattr(os, "O_PATH", 0o10000000)
SEEK_DATA: int = getattr(os, "SEEK_DATA", 3)
SEEK_HOLE: int = getattr(os, "SEEK_HOLE", 4)
