"""Checks whether this machine has what the disk needs."""

from __future__ import annotations

import os
from pathlib import Path

from tests.disk.disk import programs_missing

INSTALL = "apt-get install -y e2fsprogs btrfs-progs"
_DEVICES = ("/dev/fuse", "/dev/loop-control")


def missing() -> str:
    """Return why there can be no disk here, and what to do; empty if there can."""
    if os.geteuid() != 0:
        return "only root may mount a disk"
    absent = programs_missing()
    if absent:
        return f"{', '.join(absent)} missing; as root: {INSTALL}"
    devices = [device for device in _DEVICES if not Path(device).exists()]
    return f"no {', '.join(devices)} (modprobe fuse loop)" if devices else ""
