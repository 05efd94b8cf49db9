"""Fixtures of disks, for tests that import them."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.disk import requirements
from tests.disk.disk import Disk
from tests.support.prerequisites import demand

DISK_BYTES = 96 << 20
"""Large enough for a push, which requires 64 MiB free in addition to what it needs."""

_CLONE_NEWNS = 0x20000
MakeDisk = Callable[..., Disk]


@pytest.fixture
def private_mounts() -> Iterator[None]:
    """A mount namespace, so that only this process sees the test's mounts, and they end with it.

    No other thread may be alive at its beginning or end, or the kernel refuses to change back.
    """
    demand_disk()
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        yield
        if libc.setns(outside, _CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(outside)


@pytest.fixture
def make_disk(private_mounts: None, tmp_path: Path) -> Iterator[MakeDisk]:
    """A function that makes disks, which only this test sees and which end with it."""
    with ExitStack() as stack:

        def make(name: str = "disk", size_bytes: int = DISK_BYTES, **options: object) -> Disk:
            directory = tmp_path / name
            directory.mkdir()
            return stack.enter_context(Disk(directory, size_bytes, **options))  # type: ignore[arg-type]

        yield make


def demand_disk() -> None:
    """If there can be no disk, skip the test with the reason, or fail it if disks are required."""
    demand("disk", requirements.missing())
