"""Set-id bits, which a copy that belongs to another user must not have."""

from __future__ import annotations

import os
import stat

SET_ID = stat.S_ISUID | stat.S_ISGID


def mode_for(user_id: int, status: os.stat_result) -> int:
    """Return the mode that a copy of a file may have if it belongs to the user `user_id`.

    If the file itself belongs to another user, its set-id bits are dropped: otherwise that user
    would get the rights of the one who copies it.
    """
    mode = stat.S_IMODE(status.st_mode)
    return mode if status.st_uid == user_id else mode & ~SET_ID
