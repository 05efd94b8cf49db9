"""Disks as the storage of hosts of the lab."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from envsync.agent.server.filesystem import sync_filesystem
from tests.disk.disk import Disk
from tests.disk.fixtures import DISK_BYTES
from tests.lab.lab import LabHost

if TYPE_CHECKING:
    from typing_extensions import Self

_OPTIONS = "errors=remount-ro"


class LabDisk:
    """A disk that is a host's storage; use it in a `with`."""

    def __init__(self, host: LabHost, size_bytes: int = DISK_BYTES, features: tuple[str, ...] = ()):
        self._host = host
        enter = ["nsenter", f"--target={host.namespaces.pid}", "--mount", "--"]
        self.disk = Disk(Path("/run/lab/disk"), size_bytes, enter=enter, features=features)
        self._mount()

    def _mount(self) -> None:
        self._host.use_directory(self.disk.mount(_OPTIONS))

    def restart(self) -> None:
        """Remount the disk as after a power-off, without errors and cached blocks."""
        self._unmount()
        self.disk.heal()
        self._mount()

    def _unmount(self) -> None:
        top = Path(self._host.prefix).parents[1]
        self._host.namespaces.set_up_when_idle("umount", str(top))
        self.disk.unmount()

    def break_off(self) -> None:
        """Have the kernel find the filesystem damaged, and make it read-only at once."""
        name = Path(self.disk.device).name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("made by a test\n")

    def fill(self) -> Path:
        """Fill every free block; return the file, whose removal frees them again."""
        filler = self._host.path(f"{self._host.prefix}/filler")
        fd = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
        # Repeated, because write-back and recent removals can free further blocks.
        for block_bytes in (1 << 20, 4096, 1024, 1024):
            sync_filesystem(fd)
            with contextlib.suppress(OSError):
                while os.write(fd, bytes(block_bytes)):
                    pass
        os.close(fd)
        return filler

    def flip(self, content: bytes) -> None:
        """Flip a bit of these bytes, which are on the disk once, unnoticed by the filesystem."""
        self._unmount()
        self.disk.flip(content)
        self._mount()

    def unreadable(self, path: Path, content: bytes) -> None:
        """Make the pages of a file that contain `content` unreadable."""
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        pages = self.disk.pages_of(content)
        assert pages
        self.disk.fail(reads=pages)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._host.end_processes()
            self.disk.heal()
            self._unmount()
        finally:
            self.disk.close()


class QuotaDisk:
    """A btrfs with a quota that is a host's storage; use it in a `with`."""

    def __init__(self, host: LabHost, size_bytes: int) -> None:
        self._host = host
        self._size_bytes = size_bytes
        self._image, self._mounted = Path("/run/lab/quota.btrfs"), Path("/run/lab/quota")

    def __enter__(self) -> Self:
        set_up = self._host.namespaces.set_up
        self._host.path(self._image).touch()
        os.truncate(self._host.path(self._image), self._size_bytes)
        set_up("mkfs.btrfs", "-q", "-m", "single", str(self._image))
        set_up("mkdir", str(self._mounted))
        set_up("mount", "-o", "loop", str(self._image), str(self._mounted))
        set_up("btrfs", "quota", "enable", str(self._mounted))
        self._host.use_directory(self._mounted)
        return self

    def allow(self, further_bytes: int) -> None:
        """Set the quota to what is used now and `further_bytes` more."""
        mounted = self._host.path(self._mounted)
        fd = os.open(mounted, os.O_RDONLY)
        sync_filesystem(fd)
        os.close(fd)
        found = os.statvfs(mounted)
        limit = (found.f_blocks - found.f_bfree) * found.f_frsize + further_bytes
        self._host.namespaces.set_up("btrfs", "qgroup", "limit", str(limit), str(self._mounted))

    def __exit__(self, *_: object) -> None:
        self._host.end_processes()
        unmount = self._host.namespaces.set_up_when_idle
        unmount("umount", str(Path(self._host.prefix).parents[1]))
        unmount("umount", str(self._mounted))
        self._host.path(self._image).unlink()
