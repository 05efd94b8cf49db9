"""Which differences between two machines forbid a push, and which only deserve a warning."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.platform_needs import Platform, cuda_package, mismatches

HERE = Platform("Linux", "x86_64", "glibc", "2.36")


@pytest.mark.parametrize(
    ("target", "refusals", "warnings"),
    [
        (HERE, 0, 0),
        (replace(HERE, machine="AMD64"), 0, 0),
        (replace(HERE, machine="aarch64"), 1, 0),
        (replace(HERE, system="Darwin"), 1, 0),
        (replace(HERE, libc="musl"), 1, 0),
        (replace(HERE, machine="aarch64", libc="musl"), 2, 0),
        (replace(HERE, libc_version="2.35"), 0, 1),
        (replace(HERE, libc_version="2.4"), 0, 1),
        (replace(HERE, libc_version="2.100"), 0, 0),
        (replace(HERE, libc_version=""), 0, 0),
        (Platform("", "", "", ""), 0, 0),
    ],
)
def test_mismatches(target: Platform, refusals: int, warnings: int) -> None:
    found = mismatches(HERE, target)
    assert [one.refused for one in found] == [True] * refusals + [False] * warnings
    assert all(one.message for one in found)


@given(st.builds(Platform, st.text(), st.text(), st.text(), st.text()))
def test_a_machine_suits_itself(platform: Platform) -> None:
    assert mismatches(platform, platform) == ()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([b"numpy-2.0.1-py311_0.json", b"history"], None),
        (
            [b"pytorch-cuda-12.1-h0_5.json", b"python-3.11.7-h0.json"],
            b"pytorch-cuda-12.1-h0_5.json",
        ),
        (
            [b"nvidia_cuda_runtime_cu12-12.4.127.dist-info"],
            b"nvidia_cuda_runtime_cu12-12.4.127.dist-info",
        ),
        ([b"cudatoolkit-11.8.0-h6a678d5_0.json"], b"cudatoolkit-11.8.0-h6a678d5_0.json"),
        ([b"cudatoolkit-docs-1.json"], None),
    ],
)
def test_what_needs_cuda(names: list[bytes], expected: bytes | None) -> None:
    assert cuda_package(names) == expected
