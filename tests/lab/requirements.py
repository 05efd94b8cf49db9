"""What the lab needs of the machine, and what is missing."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

INSTALL = "apt-get install -y openssh-server rsync iproute2"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PROGRAMS = ("sshd", "ssh", "ssh-keygen", "rsync")
_NAMESPACE_PROGRAMS = ("ip", "tc", "unshare", "nsenter", "mount")
_TRIAL = (
    "ip link add trial0 type veth peer name trial1 && ip link add trial2 type bridge && "
    "tc qdisc add dev trial0 root tbf rate 1mbit burst 256k latency 50ms && "
    "mount -t tmpfs tmpfs /mnt"
)


def required() -> bool:
    """Whether a missing part is a failure: ENVSYNC_REQUIRE names "lab"."""
    return "lab" in os.environ.get("ENVSYNC_REQUIRE", "").replace(",", " ").split()


def missing_for_any_lab() -> str:
    """Why no lab at all can run here, with what to do; empty where one can."""
    return _missing(_PROGRAMS)


@functools.cache
def missing_for_namespaces() -> str:
    """Why hosts cannot have namespaces of their own here; empty where they can."""
    missing = _missing((*_PROGRAMS, *_NAMESPACE_PROGRAMS))
    if missing:
        return missing
    if os.geteuid() != 0:
        return "namespaces need root"
    done = subprocess.run(
        ["unshare", "-n", "-m", "-u", "-i", "-p", "--fork", "sh", "-c", _TRIAL],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces: {done.stderr.strip()}" if done.returncode != 0 else ""


def _missing(programs: tuple[str, ...]) -> str:
    absent = [program for program in programs if shutil.which(program, path=_PATH) is None]
    return f"{', '.join(absent)} missing; as root: {INSTALL}" if absent else ""
