"""A private view of the file system, in which a path leads to another directory.

Every server of the demo has its own directory at the prefix that all of them share, as real servers
do. For that, root needs a mount namespace, and an ordinary user a user namespace around it, which
some systems forbid.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWUSER = 0x10000000
_MS_BIND = 4096
_MS_REC = 16384
_MS_PRIVATE = 1 << 18

Binds = Sequence[tuple[Path, Path]]
"""Pairs of a directory and the existing path at which it is to appear."""


def isolate(binds: Binds, hostname: str | None = None) -> None:
    """Give this process and its future children a view of the file system of their own.

    With `hostname`, they also get that host name. The process must have no other threads. Raises
    `OSError` if the kernel refuses; the process may then be in half a namespace and should end.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNS if hostname is None else _CLONE_NEWNS | _CLONE_NEWUTS
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(flags) != 0:
        _check(libc.unshare(flags | _CLONE_NEWUSER), "unshare")
        _map_to_oneself(uid, gid)
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mount --make-rprivate")
    for directory, place in binds:
        done = libc.mount(os.fsencode(directory), os.fsencode(place), None, _MS_BIND, None)
        _check(done, f"mount --bind {place}")
    if hostname is not None:
        name = hostname.encode()
        _check(libc.sethostname(name, len(name)), "sethostname")


def _map_to_oneself(uid: int, gid: int) -> None:
    """Keep the same user and group ids in the new user namespace."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
