"""What ELF files need."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.elf import Version, needed_glibc, run_paths
from tests.support.elf_file import RPATH, RUNPATH, elf


def of(content: bytes) -> Version:
    return needed_glibc(lambda offset, size: content[offset : offset + size])


def test_file_that_names_no_version_needs_none() -> None:
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\2\1\1" + bytes(57)):
        assert of(content) == ()


def run_paths_of(content: bytes) -> tuple[bytes, ...]:
    return run_paths(lambda offset, size: content[offset : offset + size])


@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", [RPATH, RUNPATH])
def test_run_paths_are_read(order: str, tag: int, *, is_wide: bool) -> None:
    content = elf({tag: b"$ORIGIN/../lib::/opt/x"}, is_wide=is_wide, order=order)
    assert run_paths_of(content) == (b"$ORIGIN/../lib", b"/opt/x")


def test_the_newer_of_the_two_counts() -> None:
    assert run_paths_of(elf({RPATH: b"/old", RUNPATH: b"/new"})) == (b"/new",)


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", elf({}), elf({RPATH: b""}), elf({RPATH: b"/x"})[:-90]]
)
def test_file_that_names_no_directory_has_no_run_paths(content: bytes) -> None:
    assert run_paths_of(content) == ()


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_damage_is_no_error(junk: bytes, at: int) -> None:
    for content in (Path("/bin/ls").read_bytes()[:40_000], elf({RUNPATH: b"$ORIGIN/x"})):
        damaged = bytearray(content)
        damaged[at : at + len(junk)] = junk
        of(bytes(damaged))
        run_paths_of(bytes(damaged))


def test_an_offset_of_no_file_is_no_error(tmp_path: Path) -> None:
    """A real descriptor takes no offset of 64 bits."""
    path = tmp_path / "x.so"
    content = elf({RUNPATH: b"$ORIGIN/x"})
    path.write_bytes(content[:32] + b"\xff" * 16 + content[48:])
    with path.open("rb") as file:

        def read(offset: int, size: int) -> bytes:
            return os.pread(file.fileno(), size, offset)

        assert run_paths(read) == ()
        assert needed_glibc(read) == ()


def with_needs(count: int, versions: int) -> bytes:
    """A library that needs GLIBC_2.5, and says that it needs so many others as well."""
    strings, at = b"\0GLIBC_2.5\0", 64
    rows = struct.pack("<HHIII", 1, versions, 0, 16, 0) + struct.pack("<IHHII", 0, 0, 0, 1, 0)
    sections = [(3, at, len(strings), 0, 0), (0x6FFFFFFE, at + len(strings), len(rows), 0, count)]
    start = at + len(strings) + len(rows)
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, len(sections), 0)
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, size, link, entries, 1, 0)
        for kind, offset, size, link, entries in sections
    )
    return head + strings + rows + table


@pytest.mark.timeout(20)
def test_a_list_ends_where_nothing_follows() -> None:
    """A count of billions is damage, or made to keep somebody busy."""
    assert of(with_needs(1, 1)) == (2, 5)
    assert of(with_needs(0xFFFFFFFF, 0xFFFF)) == (2, 5)
