"""Tells whether two ends see the same directory, on a filesystem that both have mounted.

Nothing is written: what is written to the one would be written to the other.
"""

from __future__ import annotations

import os
from typing import Optional

from envsync.agent.server.filesystem import mount_of
from envsync.agent.server.machine import boot_id
from envsync.agent.wire.messages import DirectoryIdentity


def directory_identity(path: bytes) -> Optional[DirectoryIdentity]:
    """Return the identity of the directory at `path`; None if it is missing or out of reach."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return DirectoryIdentity(
        boot=boot_id(),
        device=str(status.st_dev),
        inode=str(status.st_ino),
        changed_ns=status.st_ctime_ns,
        is_network=mount_of(path).is_network,
    )


def is_same_directory(one: DirectoryIdentity, other: DirectoryIdentity) -> bool:
    """Return whether both are the same directory.

    On one kernel, device and inode identify it, even from different containers. Two kernels can
    share a directory only through the network; its inode and ctime are then the file server's, and
    no copy has both.
    """
    if one.inode != other.inode:
        return False
    if one.boot and one.boot == other.boot and one.device == other.device:
        return True
    return (one.is_network or other.is_network) and one.changed_ns == other.changed_ns
