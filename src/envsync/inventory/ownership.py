"""Whose a file is that says what runs as this user."""

from __future__ import annotations

import os
import stat


def who_else_wrote(status: os.stat_result) -> str | None:
    """What a person is told where somebody else could have written it: completes "the file ...".

    Root could always have.
    """
    if status.st_uid not in (os.geteuid(), 0):
        return "belongs to another user"
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    return None
