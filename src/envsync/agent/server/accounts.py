"""Users and groups of this server, by name."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Optional


def who() -> str:
    """Return user and host, such as `alice@server1`."""
    return f"{user_name()}@{os.uname().nodename}"


def user_name(uid: Optional[int] = None) -> str:
    """Return a user's name, by default this process's; the number as text if it has no name."""
    uid = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return a group's name; the number as text if it has no name."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def is_in_group(gid: int) -> bool:
    return gid in (os.getegid(), *os.getgroups())


def is_own(status: os.stat_result) -> bool:
    """Return whether a file is this user's."""
    return status.st_uid == os.geteuid()


def may_change(status: os.stat_result) -> bool:
    """Return whether this user may set a file's mode and times: it is theirs, or they are root."""
    return os.geteuid() == 0 or is_own(status)


def login_shell() -> str:
    """Return the path of this user's login shell; empty if unknown."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_shell
    except KeyError:
        return ""
