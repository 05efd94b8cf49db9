"""An outline as it comes: whole, or refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.tree import outline as outlines
from envsync.tree.entry import FILE, InvalidEntry, join

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
FILES = st.dictionaries(
    NAMES, st.tuples(st.sampled_from([0o644, 0o755]), st.integers(0, 1 << 40), st.integers(0))
).map(lambda files: [(name, *files[name]) for name in sorted(files)])


def _encoded(*directories: tuple[bytes, list[tuple[bytes, int, int, int]]]) -> bytes:
    return outlines.encode(directories)


@given(top=FILES, below=FILES)
def test_it_comes_back_as_it_went(
    top: list[tuple[bytes, int, int, int]], below: list[tuple[bytes, int, int, int]]
) -> None:
    top = [file for file in top if file[0] != b"d" and file[3] < 1 << 63]
    below = [file for file in below if file[3] < 1 << 63]
    found = outlines.decode(_encoded((b"", top), (b"d", below)))
    assert found.directories == (b"", b"d")
    wanted = top + [(join(b"d", name), mode, size, mtime) for name, mode, size, mtime in below]
    assert [(path, e.mode, e.size_bytes, e.mtime_ns) for path, e in found.files] == wanted
    assert all(entry.kind == FILE and not entry.content for _, entry in found.files)
    assert found.size_bytes == sum(size_bytes for _, _, size_bytes, _ in wanted)


FILE_ROW = (b"f", 0o644, 1, 1)


@pytest.mark.parametrize(
    "data",
    [
        _encoded((b"", [(b"..", 0o644, 1, 1)])),
        _encoded((b"", [(b"a/b", 0o644, 1, 1)])),
        _encoded((b"", [(b"", 0o644, 1, 1)])),
        _encoded((b"", [FILE_ROW, FILE_ROW])),
        _encoded((b"", [(b"b", 0o644, 1, 1), (b"a", 0o644, 1, 1)])),
        _encoded((b"", [(b"f", 0o646, 1, 1)])),
        _encoded((b"", [(b"f", 0o100644, 1, 1)])),
        _encoded((b"", [(b"f", 0o644, -1, 1)])),
        _encoded((b"", [(b"f", 0o644, 1 << 60, 1)])),
        _encoded((b"", [(b"n" * 300, 0o644, 1, 1)])),
        _encoded((b"/etc", [])),
        _encoded((b"", []), (b"a/b", [])),
        _encoded((b"", []), (b"..", [])),
        _encoded((b"", []), (b"", [])),
        _encoded((b"", [FILE_ROW]), (b"f", [])),
        _encoded((b"", [FILE_ROW]), (b"f", []), (b"f/g", [FILE_ROW])),
        _encoded((b"", [FILE_ROW]))[:-1],
        _encoded((b"", [FILE_ROW]))[:9],
        b"\0",
        struct.pack("<HII", 0, 1 << 31, 5),
        struct.pack("<HII", 0, 3, 1 << 31) + bytes(72),
    ],
)
def test_what_no_scan_could_have_given_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEntry):
        outlines.decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_outline_or_refused(data: bytes) -> None:
    try:
        found = outlines.decode(data)
    except InvalidEntry:
        return
    assert all(b".." not in path.split(b"/") for path, _ in found.files)
