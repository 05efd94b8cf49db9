"""What ELF files need of glibc, against what the system's own tool reads."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.elf import Version, needed_glibc

FILES = [sys.executable, math.__file__ if hasattr(math, "__file__") else "", "/bin/ls"]


def of(content: bytes) -> Version:
    return needed_glibc(lambda offset, size: content[offset : offset + size])


@pytest.mark.parametrize("path", [path for path in FILES if path])
def test_it_is_what_readelf_says(path: str) -> None:
    assert shutil.which("readelf"), "binutils are needed"
    done = subprocess.run(["readelf", "-V", path], capture_output=True, text=True, check=True)
    needed = done.stdout.partition("Version needs section")[2]
    versions = [
        tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", needed)
    ]
    assert of(Path(path).read_bytes()) == max(versions, default=())


def test_what_names_no_version_needs_none() -> None:
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\2\1\1" + bytes(57)):
        assert of(content) == ()


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_damage_is_no_error(junk: bytes, at: int) -> None:
    content = bytearray(Path("/bin/ls").read_bytes()[:40_000])
    content[at : at + len(junk)] = junk
    of(bytes(content))
