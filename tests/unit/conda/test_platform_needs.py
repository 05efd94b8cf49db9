"""Which differences between two machines forbid a push, and which only deserve a warning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.platform_needs import CudaNeed, Platform, cuda_mismatch, cuda_need, mismatches

HERE = Platform("Linux", "x86_64", "glibc", "2.36")


@pytest.mark.parametrize(
    ("target", "refusals", "warnings"),
    [
        (HERE, 0, 0),
        (HERE._replace(machine="AMD64"), 0, 0),
        (HERE._replace(machine="aarch64"), 1, 0),
        (HERE._replace(system="Darwin"), 1, 0),
        (HERE._replace(libc="musl"), 1, 0),
        (HERE._replace(machine="aarch64", libc="musl"), 2, 0),
        (HERE._replace(libc_version="2.35"), 0, 1),
        (HERE._replace(libc_version="2.4"), 0, 1),
        (HERE._replace(libc_version="2.100"), 0, 0),
        (HERE._replace(libc_version=""), 0, 0),
        (Platform("", "", "", ""), 0, 0),
        (HERE._replace(libc_version="9" * 5000), 0, 0),
    ],
)
def test_platforms_that_differ_are_refused_or_warned_of(
    target: Platform, refusals: int, warnings: int
) -> None:
    found = mismatches(HERE, target)
    assert [one.refused for one in found] == [True] * refusals + [False] * warnings
    assert all(one.message for one in found)


@given(st.builds(Platform, st.text(), st.text(), st.text(), st.text()))
def test_a_machine_suits_itself(platform: Platform) -> None:
    assert mismatches(platform, platform) == ()


@pytest.mark.parametrize(
    ("names", "package", "version"),
    [
        (["numpy-2.0.1-py311_0.json", "history", "cudatoolkit-docs-1.json"], "", None),
        (["pytorch-cuda-12.1-h0_5.json", "python-3.11.7-h0.json"], "pytorch-cuda-12.1", (12, 1)),
        (["nvidia_cuda_runtime_cu12-12.4.127.dist-info"], "nvidia_cuda_runtime_cu12", (12, 4)),
        (["cudatoolkit-11.8.0-h6a678d5_0.json", "cuda-version-11.4-h0.json"], "cudat", (11, 8)),
        (["pytorch-2.1.0-py3.11_cuda12.1_cudnn8.9.2_0.json"], "pytorch-2.1.0", (12, 1)),
        (["pytorch-2.4.0-cuda120_py311h1_301.json"], "pytorch-2.4.0", (12, 0)),
        (["jaxlib-0.4.31-cuda118py311h1_200.json"], "jaxlib", (11, 8)),
        (["torch-2.4.0+cu121.dist-info"], "torch", (12, 1)),
        (["torch-2.4.0+cpu.dist-info", "torch-2.4.0.dist-info"], "", None),
        (["nvidia_cublas_cu12-12.1.3.1.dist-info"], "nvidia_cublas_cu12", (12, 0)),
        (["nvidia_cublas-13.1.0.3.dist-info"], "nvidia_cublas", (13, 0)),
        (["jax_cuda12_plugin-0.4.31.dist-info"], "jax_cuda12_plugin", (12, 0)),
        (["cupy_cuda12x-13.3.0.dist-info", "cupy_cuda12x"], "cupy_cuda12x-", (12, 0)),
        (["nvidia_cufft-12.0.0.61.dist-info"], "", None),
        (["pytorch-2.4.0-cpu_generic_py311h1_1.json"], "", None),
    ],
)
def test_packages_that_need_cuda_are_recognized(
    names: list[str], package: str, version: tuple[int, int] | None
) -> None:
    need = cuda_need([name.encode() for name in names])
    assert (None if need is None else need.version) == version
    assert need is None or need.package.startswith(package.encode())


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        ("", "no NVIDIA driver is loaded there"),
        (None, "nvidia-smi there does not answer"),
        ("11.8", "but the driver there is for 11.8"),
        ("12.2", "for 12.2: most of it may run"),
        ("12.4", None),
        ("13.0", None),
    ],
)
def test_cuda_driver_that_is_too_old_is_warned_of(driver: str | None, says: str | None) -> None:
    told = cuda_mismatch(CudaNeed(b"cuda-version-12.4-h0.json", (12, 4)), driver)
    assert (told is None) == (says is None)
    assert told is None or told.endswith(says or "")
