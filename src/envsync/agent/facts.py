"""What a server is and does right now, read from /proc and the interpreter."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from typing import Dict, Iterator, List, Tuple

from envsync.agent.messages import PlatformFacts, ProcessUse
from envsync.conda.busy import Process

PROCESSES_SHOWN = 20


def platform_facts() -> PlatformFacts:
    libc, version = platform.libc_ver()
    if not libc:
        # platform recognises glibc only; a musl loader is told by its file.
        names = os.listdir("/lib") if os.path.isdir("/lib") else []
        libc = "musl" if any(name.startswith("ld-musl-") for name in names) else "unknown"
    return PlatformFacts(platform.system(), platform.machine(), libc, version)


def who() -> str:
    """The user and the host: `alice@server1`."""
    return "%s@%s" % (user_name(), socket.gethostname())


def user_name() -> str:
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def running_processes() -> Iterator[Process]:
    """Processes of this user, as far as the kernel tells."""
    for pid in _own_pids():
        with contextlib.suppress(OSError):
            with open("/proc/%d/cmdline" % pid, "rb") as file:
                argv = tuple(file.read().split(b"\0")[:-1])
            environ: Dict[bytes, bytes] = {}
            with contextlib.suppress(OSError), open("/proc/%d/environ" % pid, "rb") as file:
                for item in file.read().split(b"\0"):
                    name, separator, value = item.partition(b"=")
                    if separator:
                        environ[name] = value
            if argv:
                yield Process(pid, argv, environ)


def processes_using(path: bytes) -> Tuple[ProcessUse, ...]:
    """Processes of this user that run from, stand in, or have mapped files below a path."""
    inside = os.path.realpath(path) + b"/"
    found: List[ProcessUse] = []
    for pid in _own_pids():
        with contextlib.suppress(OSError):
            if _uses(pid, inside):
                with open("/proc/%d/cmdline" % pid, "rb") as file:
                    command = file.read(400).replace(b"\0", b" ").decode("utf-8", "replace")
                found.append(ProcessUse(pid, command.strip()))
    return tuple(found)


def _uses(pid: int, inside: bytes) -> bool:
    root = b"/proc/%d/" % pid
    for link in (b"exe", b"cwd"):
        with contextlib.suppress(OSError):
            if (os.readlink(root + link) + b"/").startswith(inside):
                return True
    with open(root + b"maps", "rb") as file:
        return inside in file.read()


def _own_pids() -> List[int]:
    own = os.geteuid()
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.stat("/proc/" + name).st_uid == own:
                    pids.append(int(name))
    return pids
