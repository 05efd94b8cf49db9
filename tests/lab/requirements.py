"""Checks whether this machine has what the lab needs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

INSTALL = "apt-get install -y openssh-server rsync iproute2 tcsh fish"
INSTALL_FUSE = "apt-get install -y bindfs sshfs"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PROGRAMS = (
    "sshd",
    "ssh",
    "ssh-keygen",
    "rsync",
    "ip",
    "tc",
    "unshare",
    "nsenter",
    "mount",
    "tcsh",
    "fish",
)
_TRIAL = (
    "ip link add trial0 type veth peer name trial1 && ip link add trial2 type bridge && "
    "tc qdisc add dev trial0 root tbf rate 1mbit burst 256k latency 50ms && "
    "mount -t tmpfs tmpfs /mnt"
)


@functools.cache
def missing() -> str:
    """Return why the lab cannot run here, and what to do; empty if it can."""
    absent = _absent()
    if absent:
        return absent
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "-n", "-m", "-u", "-i", "-p", "--fork", "sh", "-c", _TRIAL],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    return f"no namespaces (root or user namespaces are needed): {done.stderr.strip()}"


def missing_fuse() -> str:
    """Return why FUSE filesystems cannot be mounted here, and what to do; empty if they can."""
    absent = [name for name in ("bindfs", "sshfs") if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"{', '.join(absent)} missing; as root: {INSTALL_FUSE}"
    usable = os.access("/dev/fuse", os.R_OK | os.W_OK)
    return "" if usable else "/dev/fuse may not be used (root is needed, or modprobe fuse)"


def _absent() -> str:
    absent = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    return f"{', '.join(absent)} missing; as root: {INSTALL}" if absent else ""
