"""Filesystems: mounts, free space, birth times, and system calls that Python lacks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct
from typing import List, NamedTuple, Optional, Tuple

NETWORK_KINDS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "glusterfs"}
)
FINE_STAMPS = frozenset({"ext4", "xfs", "btrfs", "tmpfs", "overlay", "f2fs", "zfs", "bcachefs"})
FINE_MARGIN_SECONDS = 0.05
COARSE_MARGIN_SECONDS = 2.0
"""A file changed twice within one step of the filesystem's clock shows only one timestamp. The
step is a kernel tick (at most 10 ms) on local filesystems, and up to 2 s if timestamps are coarse
or come from another machine."""

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_AT_FDCWD = -100
_FICLONE = 0x40049409
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME, _STATX_BTIME_AT, _STATX_BYTES = 0x800, 80, 256
_OCTAL = re.compile(rb"\\([0-7]{3})")
_libc = ctypes.CDLL(None, use_errno=True)


class Mount(NamedTuple):
    kind: str
    mount_point: bytes

    @property
    def is_network(self) -> bool:
        return self.kind in NETWORK_KINDS or self.kind.startswith("fuse")

    @property
    def stamp_margin_seconds(self) -> float:
        """How old a change must be before a further one is sure to have another timestamp."""
        return FINE_MARGIN_SECONDS if self.kind in FINE_STAMPS else COARSE_MARGIN_SECONDS


UNKNOWN_MOUNT = Mount("unknown", b"/")


def is_noexec(path: bytes) -> bool:
    """Return whether the filesystem of `path` is mounted so that no program is run from it."""
    return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)


def mount_of(path: bytes) -> Mount:
    """Return the mount that holds a path; `UNKNOWN_MOUNT` if /proc does not show it."""
    real = os.path.realpath(path)
    best = UNKNOWN_MOUNT
    for mount in _mounts():
        point = mount.mount_point
        inside = real == point or real.startswith(point.rstrip(b"/") + b"/")
        if inside and (best is UNKNOWN_MOUNT or len(point) >= len(best.mount_point)):
            best = mount
    return best


def mounts_below(path: bytes) -> List[bytes]:
    """Return the mount points below this directory, including bind mounts."""
    start = os.path.realpath(path).rstrip(b"/") + b"/"
    return [mount.mount_point for mount in _mounts() if mount.mount_point.startswith(start)]


def mounted_within(path: bytes) -> Tuple[bytes, ...]:
    """Return the mount points at or below this path, whose last component is not followed.

    They include bind mounts of the same filesystem, which no device number reveals.
    """
    parent, name = os.path.split(path.rstrip(b"/"))
    top = os.path.join(os.path.realpath(parent), name)
    points = {mount.mount_point for mount in _mounts()}
    return tuple(sorted(p for p in points if p == top or p.startswith(top + b"/")))


def is_mount_point(path: bytes) -> bool:
    """Return whether this path is a mount point, including of a bind mount."""
    real = os.path.realpath(path)
    return any(mount.mount_point == real for mount in _mounts())


def _mounts() -> List[Mount]:
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.readlines()
    except OSError:
        return []
    mounts = []
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        point = _OCTAL.sub(lambda code: bytes([int(code[1], 8)]), fields.split(b" ")[4])
        mounts.append(Mount(os.fsdecode(rest.split(b" ")[0]), point))
    return mounts


class Space(NamedTuple):
    """What an ordinary user can still use; `free_inodes` is None if there is no limit."""

    free_bytes: int
    free_inodes: Optional[int]


_UNLIMITED_BYTES = 1 << 60


def space(path: bytes) -> Space:
    status = os.statvfs(path)
    inodes = status.f_favail if status.f_files else None
    # A filesystem without a limit, such as an unlimited tmpfs, has 0 blocks.
    free_bytes = status.f_bavail * status.f_frsize if status.f_blocks else _UNLIMITED_BYTES
    return Space(free_bytes, inodes)


def exists(path: bytes) -> bool:
    """Return whether something is there, be it a link that leads nowhere.

    False as well if this user may not look there. Raises OSError if the disk does not tell, where
    `os.path.lexists` would return False.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return True


def existing_parent(path: bytes) -> bytes:
    """Return the path itself if it is a directory, or the nearest directory above that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


class ExchangeRefused(OSError):
    """Raised if names cannot be exchanged atomically (NFS, Lustre, old ZFS, overlay lower tree)."""


def exchange(first: bytes, second: bytes) -> None:
    """Exchange two names atomically; `ExchangeRefused` if the filesystem cannot."""
    _rename(first, second, _RENAME_EXCHANGE)


def rename_new(source: bytes, target: bytes) -> None:
    """Rename to a name that must not exist; FileExistsError if it does."""
    try:
        _rename(source, target, _RENAME_NOREPLACE)
    except ExchangeRefused:
        # Without the flag, a directory can still replace nothing but an empty directory.
        if exists(target):
            raise FileExistsError(errno.EEXIST, "exists", target) from None
        os.rename(source, target)


def _rename(source: bytes, target: bytes, flags: int) -> None:
    function = getattr(_libc, "renameat2", None)
    code = errno.ENOSYS
    if function is not None:
        if function(_AT_FDCWD, source, _AT_FDCWD, target, ctypes.c_uint(flags)) == 0:
            return
        code = ctypes.get_errno()
    # EXDEV: the directory is in an overlay's lower layer.
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV):
        raise ExchangeRefused(code, os.strerror(code))
    raise OSError(code, os.strerror(code), os.fsdecode(target))


def sync_filesystem(fd: int) -> None:
    """Wait until all writes to the filesystem of an open file are on disk."""
    if _libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def birth_time_ns(path: bytes, directory_fd: int) -> Optional[int]:
    """Return the birth time of a file, not following symlinks; None if the kernel has none.

    It differs if an inode number was reused for another file.
    """
    function = getattr(_libc, "statx", None)
    status = ctypes.create_string_buffer(_STATX_BYTES)
    flags, mask = ctypes.c_int(_AT_SYMLINK_NOFOLLOW), ctypes.c_uint(_STATX_BTIME)
    if function is None or function(directory_fd, path, flags, mask, status) != 0:
        return None
    (known_mask,) = struct.unpack_from("I", status)
    seconds, nanoseconds = struct.unpack_from("qI", status, _STATX_BTIME_AT)
    return seconds * 10**9 + nanoseconds if known_mask & _STATX_BTIME and seconds else None


def clone(source_fd: int, target_fd: int) -> bool:
    """Share the extents of one file with another (a reflink); False if that is refused."""
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError:
        return False
    return True
