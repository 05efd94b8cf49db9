"""This machine: its platform, its current boot, and its name among those that share a home."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys

from envsync.agent.server.filesystem import is_mount_point
from envsync.conda.platform_needs import Platform

_FILE = "/etc/machine-id"
_32_BIT = {"x86_64": "i686", "aarch64": "armv7l"}
_ID = re.compile(r"[0-9a-f]{32}\Z")


@functools.lru_cache(maxsize=None)
def name() -> str:
    """Return a name that is unique to this machine and survives reboots: see machine-id(5).

    If there is no such ID, as in most containers, or only one for this boot, mounted over the file
    (on a diskless machine), return the host name, without its domain, which may come and go with
    the network.
    """
    return _lasting_id() or _host_name()


def name_among_all() -> str:
    """Return a name that no other machine anywhere has, as far as can be known; else "".

    Images are installed on many machines with the ID that they have, so the host name is part of
    it, and "localhost" is none.
    """
    machine_id, host = _lasting_id(), _host_name()
    return f"{machine_id} {host}" if machine_id and host != "localhost" else ""


def _host_name() -> str:
    return os.uname().nodename.partition(".")[0]


def _lasting_id() -> str:
    with contextlib.suppress(OSError, ValueError), open(_FILE, encoding="ascii") as file:
        text = file.read(64).strip()
        if _ID.match(text) and not is_mount_point(os.fsencode(_FILE)):
            return text
    return ""


@functools.lru_cache(maxsize=None)
def boot_id() -> str:
    """Return the kernel's ID of this boot, or "" if unknown; cached, as no process outlives it."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def platform_facts() -> Platform:
    kernel = os.uname()
    libc, _, version = _glibc().partition(" ")
    if not libc:
        # musl is recognized by its loader's file name.
        names = os.listdir("/lib") if os.path.isdir("/lib") else []
        libc = "musl" if any(name.startswith("ld-musl-") for name in names) else "unknown"
    return Platform(kernel.sysname, _architecture(kernel.machine), libc, version)


def _architecture(kernel_machine: str) -> str:
    """Return what programs here are for: less than the kernel's, in a 32-bit system."""
    if sys.maxsize > 1 << 32:
        return kernel_machine
    return _32_BIT.get(kernel_machine, kernel_machine)


def _glibc() -> str:
    """Return a string such as `glibc 2.36`, or "" if the C library is another one.

    The library itself is asked, because `platform.libc_ver` searches the interpreter's whole file.
    """
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""
