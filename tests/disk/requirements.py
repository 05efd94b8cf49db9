"""What the disk needs of the machine, and what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.disk.disk import PATH

INSTALL = "apt-get install -y e2fsprogs"
_DEVICES = ("/dev/fuse", "/dev/loop-control")


def required() -> bool:
    """Whether a missing part is a failure: ENVSYNC_REQUIRE names "disk"."""
    return "disk" in os.environ.get("ENVSYNC_REQUIRE", "").replace(",", " ").split()


def missing() -> str:
    """Why there can be no disk here, with what to do; empty where there can."""
    if os.geteuid() != 0:
        return "only root may mount a disk"
    if shutil.which("mkfs.ext4", path=PATH) is None:
        return f"mkfs.ext4 missing; as root: {INSTALL}"
    absent = [device for device in _DEVICES if not Path(device).exists()]
    return f"no {', '.join(absent)} (modprobe fuse loop)" if absent else ""


def report_header() -> str:
    why = missing()
    suffix = ", required" if required() else ""
    return f"disk: off{suffix} ({why})" if why else f"disk: on{suffix}"
