"""Tells whether two ends see the same directory, on a filesystem that both have mounted.

Found without writing: what is written to the one would be written to the other.
"""

from __future__ import annotations

import os
from typing import Optional

from envsync.agent.server.boot import boot_id
from envsync.agent.server.filesystem import mount_of
from envsync.agent.wire.messages import DirectoryIdentity


def directory_identity(path: bytes) -> Optional[DirectoryIdentity]:
    """The identity of the directory at a path; None where there is none."""
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
    """Whether both are the same directory.

    One kernel tells by device and inode, in whatever container. Two see the same only
    through the network, where the inode and the time of the last change are the server's: no
    copy has both.
    """
    if one.inode != other.inode:
        return False
    if one.boot and one.boot == other.boot and one.device == other.device:
        return True
    return (one.is_network or other.is_network) and one.changed_ns == other.changed_ns
