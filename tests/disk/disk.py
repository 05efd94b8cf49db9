"""A disk with an ext4 on it, as the test process uses it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_SERVER = Path(__file__).with_name("block_server.py")
_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
_AUTOCLEAR = 4


class Disk:
    """A formatted block device of `size_bytes`, which can be mounted and unmounted repeatedly.

    `enter` is the start of each command line that mounts, which enters the mount namespace in
    which the disk is visible. `directory` is a directory there for the mount point.
    """

    def __init__(
        self,
        directory: Path,
        size_bytes: int,
        *,
        enter: Sequence[str] = (),
        features: Sequence[str] = (),
    ) -> None:
        self.mount_point = directory / "mounted"
        self.size_bytes = size_bytes
        self._enter = list(enter)
        self._file = directory / "disk"
        self._loop_fd = -1
        self._is_mounted = False
        self._run("mkdir", "-p", str(self.mount_point))
        self._run("touch", str(self._file))
        self._server = subprocess.Popen(
            [
                *self._enter,
                sys.executable,
                "-I",
                "-S",
                str(_SERVER),
                str(self._file),
                str(size_bytes),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert self._answer() == "mounted"
            self.device = self._attach()
            options = ["-q", "-F", "-b4096", "-m0", "-E", "lazy_itable_init=1,nodiscard", *features]
            self._run("mkfs.ext4", *options, self.device)
        except BaseException:
            self.close()
            raise

    def _attach(self) -> str:
        """Attach a free loop device to the file; it is detached when it is closed."""
        inside = f"/proc/{self._server.pid}/root{self._file}"
        backing = os.open(inside, os.O_RDWR | os.O_CLOEXEC)
        info = struct.pack("<QQQQQIIII160x16x", 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR)
        config = struct.pack("<II", backing, 0) + info + bytes(64)
        with Path("/dev/loop-control").open("rb") as control:
            while True:
                device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
                self._loop_fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(self._loop_fd, _LOOP_CONFIGURE, config)
                except OSError as error:
                    os.close(self._loop_fd)
                    self._loop_fd = -1
                    if error.errno != errno.EBUSY:
                        raise
                    continue
                os.close(backing)
                return device

    def mount(self, options: str = "defaults") -> Path:
        self._run("mount", "-t", "ext4", "-o", options, self.device, str(self.mount_point))
        self._is_mounted = True
        return self.mount_point

    def unmount(self) -> None:
        """Unmount the disk, and drop the kernel's cache of its blocks."""
        if self._is_mounted:
            self._run("umount", str(self.mount_point))
            self._is_mounted = False
            # The kernel's cached blocks of the device are no longer valid.
            self._run("blockdev", "--flushbufs", self.device)

    def _run(self, *argv: str) -> str:
        done = subprocess.run(
            [*self._enter, *argv],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": PATH},
            timeout=30,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    # Power cuts

    def record(self) -> None:
        """Start to record writes and flushes."""
        self._order("record")

    def position(self) -> int:
        """Return the number of writes and flushes since `record`."""
        position: int = self._order("position")
        return position

    def stop_recording(self) -> str:
        """Stop recording; return what happened, in order: "w" for a write, "f" for a flush."""
        happened: str = self._order("stop")
        return happened

    def cut_power(self, position: int, cached: str = "lost", seed: int | None = None) -> None:
        """Become what a power cut at that position left; the disk must not be mounted.

        Writes that no flush had covered are all "kept" or all "lost" according to `cached`; with
        "some", pages chosen by `seed` are kept.
        """
        assert not self._is_mounted
        self._order("become", position=position, cached=cached, seed=seed)

    # Errors

    def pages_of(self, content: bytes) -> list[int]:
        """Return the numbers of the disk's pages that contain these bytes."""
        pages: list[int] = self._order("find", content=content.hex())
        return pages

    def flip(self, content: bytes) -> None:
        """Flip a bit of these bytes, which are on the disk once; it must not be mounted."""
        assert not self._is_mounted
        [page] = self.pages_of(content)
        self._order("flip", page=page, content=content.hex())

    def fail(self, *, reads: Sequence[int] = (), written: bytes = b"") -> None:
        """Fail reads of these pages, and writes of data that contains `written`."""
        self._order("fail", reads=list(reads), content=written.hex())

    def heal(self) -> None:
        self.fail()

    def _order(self, what: str, **arguments: Any) -> Any:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the disk's process has ended, see stderr")
        return json.loads(line)

    def close(self) -> None:
        """Unmount and remove the disk. Can be called more than once."""
        with contextlib.suppress(RuntimeError):
            self.unmount()
        if self._loop_fd >= 0:
            os.close(self._loop_fd)
            self._loop_fd = -1
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._server.stdin.close()
        self._server.wait(timeout=20)
        self._server.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def programs_missing() -> list[str]:
    return [
        name
        for name in ("mkfs.ext4", "mkfs.btrfs", "mount", "blockdev")
        if shutil.which(name, path=PATH) is None
    ]
