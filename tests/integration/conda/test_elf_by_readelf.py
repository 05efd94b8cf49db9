"""What ELF files need, against what the system's own tool reads."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from envsync.conda.elf import needed_glibc, run_paths
from tests.support.elf_file import RPATH, RUNPATH, elf

FILES = [sys.executable, math.__file__ if hasattr(math, "__file__") else "", "/bin/ls"]


def readelf(option: str, path: Path) -> str:
    argv = ["readelf", option, str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.parametrize("path", [path for path in FILES if path])
def test_needed_glibc_is_what_readelf_says(path: str) -> None:
    needed = readelf("-V", Path(path)).partition("Version needs section")[2]
    versions = [
        tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", needed)
    ]
    content = Path(path).read_bytes()
    read = needed_glibc(lambda offset, size: content[offset : offset + size])
    assert read == max(versions, default=())


@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", [RPATH, RUNPATH])
def test_run_paths_are_what_readelf_says(
    tmp_path: Path, order: str, tag: int, *, is_wide: bool
) -> None:
    """So the files of the unit tests are such as the system's loader reads."""
    content = elf({tag: b"$ORIGIN/../lib::/opt/x"}, is_wide=is_wide, order=order)
    path = tmp_path / "x.so"
    path.write_bytes(content)
    assert "[$ORIGIN/../lib::/opt/x]" in readelf("-d", path)
    found = run_paths(lambda offset, size: content[offset : offset + size])
    assert found == (b"$ORIGIN/../lib", b"/opt/x")
