"""Checks whether an environment built on one machine runs on another."""

from __future__ import annotations

import re
from typing import Iterable, Iterator, NamedTuple, Optional, Tuple

_CUDA = re.compile(
    rb"(?:(?:cuda-version|cudatoolkit|pytorch-cuda|cuda-cudart)-"
    rb"|nvidia_cuda_runtime(?:_cu[0-9]+)?-)([0-9]+)\.([0-9]+)"
)
# As in pytorch-2.1.0-py3.11_cuda12.1_cudnn8.9.2_0.json and pytorch-2.4.0-cuda120_py311_1.json.
_CUDA_BUILD = re.compile(rb"[a-z][a-z0-9_-]*-[0-9][^-]*-(?:.*_)?cuda([0-9]{2})\.?([0-9])")
# As in torch-2.4.0+cu121.dist-info, and in wheels that name only CUDA's major version, as
# nvidia_cublas_cu12-12.1.3.1.dist-info, nvidia_cublas-13.1.0.3.dist-info,
# jax_cuda12_plugin-0.4.31.dist-info and cupy_cuda12x-13.3.0.dist-info.
_CUDA_WHEEL = re.compile(rb"[a-z][a-z0-9_]*-[0-9][^-]*\+cu([0-9]{2})([0-9])")
_CUDA_MAJOR_WHEEL = re.compile(
    rb"(?:nvidia_[a-z_]+_cu|[a-z]+_cuda|nvidia_cublas-)([0-9]{2})()(?:x?(?:_[a-z]+)?-|(?<=-..)\.)"
)
_SAME_MACHINE = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


class Platform(NamedTuple):
    """What binaries depend on; an empty string means unknown.

    The values are those of `platform.system()`, `platform.machine()` and
    `platform.libc_ver()`: "Linux", "x86_64", "glibc", "2.36".
    """

    system: str
    machine: str
    libc: str
    libc_version: str


class Mismatch(NamedTuple):
    """One difference that matters; `refused` if the environment cannot run on the target."""

    message: str
    refused: bool


def has_older_libc(source: Platform, target: Platform) -> bool:
    """Return whether the target's C library can be too old for what was compiled on the source."""
    mine, its = source.libc_version, target.libc_version
    return bool(mine and its) and _version(its) < _version(mine)


def glibc_mismatch(path: bytes, needed: Tuple[int, ...], there: str) -> Optional[str]:
    """Return a message if a file needs a newer glibc than `there`, the target's; else None."""
    if needed <= _version(there):
        return None
    file, version = path.decode("utf-8", "backslashreplace"), ".".join(map(str, needed))
    return f"{file} needs glibc {version}, but the target has {there}"


class CudaNeed(NamedTuple):
    """A package, by the name of its record, and the CUDA version that it was built for."""

    package: bytes
    version: Tuple[int, int]


def mismatches(source: Platform, target: Platform) -> Tuple[Mismatch, ...]:
    """Return what speaks against running the source's environment on the target.

    An older C library is a warning, given only if there is no refusal.
    """
    reasons = [
        Mismatch(f"the source is for {noun} {mine}, the target is {its}", refused=True)
        for noun, mine, its in (
            ("the system", source.system, target.system),
            ("the architecture", kernel_machine(source.machine), kernel_machine(target.machine)),
            ("the C library", source.libc, target.libc),
        )
        if mine and its and mine != its
    ]
    mine, its = source.libc_version, target.libc_version
    if not reasons and has_older_libc(source, target):
        message = (
            f"the target's {target.libc or 'C library'} {its} is older than the source's {mine}: "
            "what was compiled on the source may not run there"
        )
        reasons.append(Mismatch(message, refused=False))
    return tuple(reasons)


def cuda_need(names: Iterable[bytes]) -> Optional[CudaNeed]:
    """Return the newest CUDA that packages were built for; None if none needs any.

    `names` are the names of the entries of `conda-meta` and `site-packages`.
    """
    needs = [need for name in sorted(names) for need in _cuda_needs(name)]
    return max(needs, key=lambda need: need.version, default=None)


def _cuda_needs(name: bytes) -> Iterator[CudaNeed]:
    for pattern in (_CUDA, _CUDA_BUILD, _CUDA_WHEEL, _CUDA_MAJOR_WHEEL):
        match = pattern.match(name)
        if match:
            yield CudaNeed(name, (int(match.group(1)), int(match.group(2) or 0)))


def cuda_mismatch(need: CudaNeed, driver: Optional[str]) -> Optional[str]:
    """Return a message if the driver is too old for `need`, else None.

    `driver` is the newest CUDA that it runs, as "12.4"; empty if no driver is loaded, None if that
    is unknown.
    """
    wanted = ".".join(map(str, need.version))
    package = need.package.decode("utf-8", "backslashreplace")
    if driver is None:
        return f"it needs CUDA {wanted} ({package}), but nvidia-smi there does not answer"
    if not driver:
        return f"it needs CUDA {wanted} ({package}), but no NVIDIA driver is loaded there"
    if _version(driver) >= need.version:
        return None
    text = f"it needs CUDA {wanted} ({package}), but the driver there is for {driver}"
    if _version(driver)[0] == need.version[0]:
        # Within a major version everything runs except code that is compiled at run time.
        return text + ": most of it may run"
    return text


def kernel_machine(machine: str) -> str:
    """Return Linux's name for a machine architecture."""
    return _SAME_MACHINE.get(machine.lower(), machine)


def _version(text: str) -> Tuple[int, ...]:
    # At most 9 digits, because int() raises for thousands of them.
    return tuple(int(part) for part in re.findall(r"\d{1,9}", text))
