"""The storage of a lab's host on a disk of its own."""

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
    """In a `with`: what stands below a host's prefix stands on this disk meanwhile."""

    def __init__(self, host: LabHost, size_bytes: int = DISK_BYTES, features: tuple[str, ...] = ()):
        self._host = host
        enter = ["nsenter", f"--target={host.namespaces.pid}", "--mount", "--"]
        self.disk = Disk(Path("/run/lab/disk"), size_bytes, enter=enter, features=features)
        self._mount()

    def _mount(self) -> None:
        self._host.use_directory(self.disk.mount(_OPTIONS))

    def restart(self) -> None:
        """As after the power was off: errors are gone, and so is what the kernel had cached."""
        self._unmount()
        self.disk.heal()
        self._mount()

    def _unmount(self) -> None:
        top = Path(self._host.prefix).parents[1]
        self._host.namespaces.set_up_when_idle("umount", str(top))
        self.disk.unmount()

    def break_off(self) -> None:
        """The kernel finds the filesystem damaged, and makes it read-only at once."""
        name = Path(self.disk.device).name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("made by a test\n")

    def fill(self) -> Path:
        """Take every free block; the file to remove, to have them again."""
        filler = self._host.path(f"{self._host.prefix}/filler")
        fd = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
        # What is written back, or was removed just before, gives blocks free once more.
        for block_bytes in (1 << 20, 4096, 1024, 1024):
            sync_filesystem(fd)
            with contextlib.suppress(OSError):
                while os.write(fd, bytes(block_bytes)):
                    pass
        os.close(fd)
        return filler

    def flip(self, content: bytes) -> None:
        """Turn a bit of what is on the disk once, behind the back of its filesystem."""
        self._unmount()
        self.disk.flip(content)
        self._mount()

    def unreadable(self, path: Path, content: bytes) -> None:
        """From now on the disk does not give a file's bytes, those with `content` in them."""
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
    """In a `with`: what stands below a host's prefix has a quota there (btrfs) meanwhile."""

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
        """So much more than what is there now."""
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
