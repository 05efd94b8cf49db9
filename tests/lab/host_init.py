"""PID 1 of a host: makes the host's private mounts, then reaps processes until its stdin ends.

`unshare` runs it as the first process in fresh namespaces. The kernel kills every process of a
PID namespace when its PID 1 ends, and the test process holds the only other end of this stdin.
So nothing of the host is left, however the test process ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_BIND, _MS_REC = 4096, 16384
_CLONE_NEWUSER = 0x10000000


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    done = _LIBC.mount(
        source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags), data.encode()
    )
    if done != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount {fstype or source} on {target}: {os.strerror(error)}")


def set_up(order: dict[str, Any]) -> None:
    socket.sethostname(order["hostname"])
    mount("tmpfs", "/run", "tmpfs", data="mode=755")
    for directory in ("/run/sshd", "/run/lab", "/run/home"):
        Path(directory).mkdir(mode=0o755)
    replace_etc(order["etc"])


def replace_etc(files: dict[str, str]) -> None:
    """Give the host an /etc of its own: these files, and links to the machine's others.

    Its files are not mounted one by one: when `useradd` on the machine replaces /etc/passwd, the
    kernel removes whatever is mounted on it, in every namespace.
    """
    machines, own = Path("/run/lab/machine-etc"), Path("/run/lab/etc")
    for directory in (machines, own):
        directory.mkdir(mode=0o755)
    # With the mounts in it, such as a container's /etc/hosts: a user may not look below those.
    mount("/etc", str(machines), "", _MS_BIND | _MS_REC)
    for path in machines.iterdir():
        if path.name not in files:
            # A relative link, such as mtab's, only leads somewhere from /etc itself.
            Path(own, path.name).symlink_to(path.readlink() if path.is_symlink() else path)
    for name, content in files.items():
        Path(own, name).write_text(content)
        Path(own, name).chmod(Path(machines, name).stat().st_mode & 0o777)
    mount(str(own), "/etc", "", _MS_BIND)


def become(user: int, group: int) -> None:
    """Enter a user namespace in which the outer namespace's root has these ids."""
    if _LIBC.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} 0 1")
    Path("/proc/self/gid_map").write_text(f"{group} 0 1")


def reap_until_input_ends() -> None:
    """Reap children until stdin ends.

    SIGCHLD writes to a pipe, because a signal right before a blocking `read` would be missed.
    """
    told, tell = os.pipe()
    for end in (told, tell):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.write(1, b"ready\n")
    while True:
        ready, _, _ = select.select([0, told], [], [])
        if told in ready:
            os.read(told, 4096)
            reap()
        if 0 in ready and not os.read(0, 4096):
            return


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    set_up(order)
    if order["user"] is not None:
        become(*order["user"])
    reap_until_input_ends()


if __name__ == "__main__":
    main()
