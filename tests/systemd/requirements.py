"""Checks whether this machine has what is needed to boot a systemd."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

INSTALL = "apt-get install -y systemd-container dbus-user-session libpam-systemd"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS = ("systemctl", "systemd-nspawn", "systemd-analyze", "dbus-daemon", "nsenter", "runuser")
_FILES = ("/usr/lib/systemd/user/dbus.socket", "/usr/share/pam-configs/systemd")
_TRIAL = (
    "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r /mnt/c && "
    "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r && "
    # All mounts show the same cgroups, so the name has to be unique among concurrent runs.
    'mount -t cgroup2 cgroup2 /mnt/c && rmdir "$(mktemp -d /mnt/c/envsync-trial.XXXXXX)"'
)


@functools.cache
def missing() -> str:
    """Return why systemd cannot be booted here, and what to do; empty if it can."""
    if os.geteuid() != 0:
        return "only root may boot one"
    absent = [name for name in _PROGRAMS if shutil.which(name, path=PATH) is None]
    absent += [name for name in _FILES if not Path(name).exists()]
    if absent:
        return f"{', '.join(absent)} missing; as root: {INSTALL}"
    trial = ["unshare", "-m", "sh", "-c", _TRIAL]
    done = subprocess.run(trial, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no overlay or cgroup2: {done.stderr.strip()}"
