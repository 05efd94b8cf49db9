"""Identifies this machine among those that share a home directory."""

from __future__ import annotations

import contextlib
import functools
import os
import re

from envsync.agent.server.filesystem import is_mount_point

_FILE = "/etc/machine-id"
_ID = re.compile(r"[0-9a-f]{32}\Z")


@functools.lru_cache(maxsize=None)
def name() -> str:
    """A name that outlives a boot, and that no other machine has: see machine-id(5).

    Where there is none, as in most containers, or one for this boot alone, which is mounted
    over the file (a machine without a disk of its own): the host's name, without its domain,
    which comes and goes with the network.
    """
    return _lasting_id() or os.uname().nodename.partition(".")[0]


def _lasting_id() -> str:
    with contextlib.suppress(OSError, ValueError), open(_FILE, encoding="ascii") as file:
        text = file.read(64).strip()
        if _ID.match(text) and not is_mount_point(os.fsencode(_FILE)):
            return text
    return ""
