"""Finds the platform of an unpacked environment from its packages."""

from __future__ import annotations

import json
import stat
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from envsync.conda.elf import ELF_MAGIC

_SYSTEMS = {"linux": "Linux", "osx": "Darwin", "win": "Windows"}
# The kernel's names. 32-bit platforms are left out: most 64-bit machines run their programs.
_MACHINES = {
    "64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_ELF_MACHINES = {
    ("<", 62): "x86_64",
    ("<", 183): "aarch64",
    ("<", 21): "ppc64le",
    ("<", 243): "riscv64",
    (">", 22): "s390x",
}
_ORDERS = {1: "<", 2: ">"}


class PackedPlatform(NamedTuple):
    """The values are those of `platform.system()` and `platform.machine()`."""

    system: str
    machine: str


def packed_platform(top: Path) -> PackedPlatform | None:
    """Return the platform that most of conda's records name, else that of the interpreter, or None.

    Nothing is read through a link.
    """
    known = Counter(filter(None, map(_of_subdir, _subdirs(top))))
    if known:
        [(platform, _)] = known.most_common(1)
        return platform
    return next(filter(None, map(_of_program, _files(top / "bin", "python*"))), None)


def _files(directory: Path, pattern: str) -> Iterator[Path]:
    if directory.is_symlink():
        return
    for path in sorted(directory.glob(pattern)):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path


def _subdirs(top: Path) -> Iterator[str]:
    for path in _files(top / "conda-meta", "*.json"):
        try:
            record = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue
        subdir = record.get("subdir") if isinstance(record, dict) else None
        if isinstance(subdir, str):
            yield subdir


def _of_subdir(subdir: str) -> PackedPlatform | None:
    system, _, machine = subdir.partition("-")
    if system not in _SYSTEMS or machine not in _MACHINES:
        return None
    return PackedPlatform(_SYSTEMS[system], _MACHINES[machine])


def _of_program(path: Path) -> PackedPlatform | None:
    with path.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or not head.startswith(ELF_MAGIC) or head[5] not in _ORDERS:
        return None
    order = _ORDERS[head[5]]
    machine = _ELF_MACHINES.get((order, struct.unpack(order + "H", head[18:20])[0]))
    return None if machine is None else PackedPlatform("Linux", machine)
