"""What programs a server is for."""

from __future__ import annotations

import os
import sys

import pytest

from envsync.agent.server.machine import platform_facts


@pytest.mark.parametrize(
    ("kernel", "bits", "expected"),
    [
        ("x86_64", 64, "x86_64"),
        ("x86_64", 32, "i686"),
        ("aarch64", 32, "armv7l"),
        ("i686", 32, "i686"),
    ],
)
def test_a_32_bit_system_on_a_64_bit_kernel_is_for_32_bit_programs(
    monkeypatch: pytest.MonkeyPatch, kernel: str, bits: int, expected: str
) -> None:
    """By its interpreter, as in a container or with an old installation below a new kernel."""
    uname = os.uname_result(("Linux", "server1", "6", "1", kernel))
    monkeypatch.setattr(os, "uname", lambda: uname)
    monkeypatch.setattr(sys, "maxsize", (1 << bits - 1) - 1)
    assert platform_facts().machine == expected
