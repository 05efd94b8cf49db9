"""Set-id bits, which a copy that belongs to another user must not get."""

from __future__ import annotations

import os
import stat

SET_ID = stat.S_ISUID | stat.S_ISGID


def mode_for(user_id: int, status: os.stat_result) -> int:
    """A file's mode as a copy may have it that belongs to this user.

    Without set-id bits where another user set them: whoever made the file would get the rights
    of the one who copies it.
    """
    mode = stat.S_IMODE(status.st_mode)
    return mode if status.st_uid == user_id else mode & ~SET_ID
