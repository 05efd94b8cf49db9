"""Whether what was built on one machine runs on another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Optional, Tuple

_CUDA = re.compile(
    rb"(?:cuda-version|cudatoolkit|pytorch-cuda|cuda-cudart)-[0-9]"
    rb"|nvidia_cuda_runtime(?:_cu[0-9]+)?-"
)
_SAME_MACHINE = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Platform:
    """What binaries depend on; an empty string is "not known".

    The values are those of `platform.system()`, `platform.machine()` and
    `platform.libc_ver()`: "Linux", "x86_64", "glibc", "2.36".
    """

    system: str
    machine: str
    libc: str
    libc_version: str


@dataclass(frozen=True)
class Mismatch:
    """One difference that matters; `refused` where the environment cannot run there."""

    message: str
    refused: bool


def mismatches(source: Platform, target: Platform) -> Tuple[Mismatch, ...]:
    """What stands against running the source's environment on the target, refusals first."""
    found = [
        Mismatch("the source is for %s %s, the target is %s" % (noun, mine, its), True)
        for noun, mine, its in (
            ("the system", source.system, target.system),
            ("the architecture", _machine(source), _machine(target)),
            ("the C library", source.libc, target.libc),
        )
        if mine and its and mine != its
    ]
    mine, its = source.libc_version, target.libc_version
    if not found and mine and its and _version(its) < _version(mine):
        message = (
            "the target's %s %s is older than the source's %s: what was compiled on the source "
            "may not run there" % (target.libc or "C library", its, mine)
        )
        found.append(Mismatch(message, False))
    return tuple(found)


def cuda_package(names: Iterable[bytes]) -> Optional[bytes]:
    """The first name of a package that says that CUDA is needed; None where none does.

    `names` are those in `conda-meta` and `site-packages`.
    """
    return next((name for name in sorted(names) if _CUDA.match(name)), None)


def _machine(platform: Platform) -> str:
    return _SAME_MACHINE.get(platform.machine.lower(), platform.machine)


def _version(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
