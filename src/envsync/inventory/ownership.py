"""Who else can write a file whose contents run as this user."""

from __future__ import annotations

import os
import stat


def who_else_wrote(status: os.stat_result) -> str | None:
    """Return why somebody else could have written the file, to complete "the file ..."; else None.

    Root does not count, because it can always write. Neither does write access for the group.
    """
    if status.st_uid not in (os.geteuid(), 0):
        return "belongs to another user"
    if status.st_mode & stat.S_IWOTH:
        return "is writable by everyone"
    return None
