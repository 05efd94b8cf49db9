"""A directory's entries as bytes: what goes in comes out, and nothing else is let in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.tree import listing as listings
from envsync.tree.entry import (
    DIRECTORY,
    FILE,
    MODE_MASK,
    PATH_MAX_BYTES,
    SIZE_MAX_BYTES,
    SYMLINK,
    Entry,
    InvalidEntry,
)
from envsync.tree.manifest import ENTRIES_MAX
from tests.support.trees import Node, few, manifest_of, trees

DIGEST = bytes(range(32))
GOOD = Entry(b"a", FILE, 0o644, 3, 0, DIGEST)


def raw(  # the layout by hand, so that it may be wrong
    name: bytes = b"a",
    kind: int = FILE,
    mode: int = 0o644,
    content: bytes = DIGEST,
    size_bytes: int = 3,
    group: bytes = b"",
    mtime_ns: int = 0,
) -> bytes:
    head = struct.pack("<BHHHqQ", kind, mode, len(name), len(content), mtime_ns, size_bytes)
    return head + name + content + group


@few
@given(trees())
def test_encoded_listing_is_decoded_to_the_same(nodes: dict[bytes, Node]) -> None:
    for rows in manifest_of(nodes).directories.values():
        entries = listings.decode_foreign(rows, ENTRIES_MAX)
        assert listings.encode(entries) == rows
        assert entries == listings.decode(rows)


@pytest.mark.parametrize("mtime_ns", [-(1 << 63), -1, 0, (1 << 63) - 1])
def test_any_time_survives(mtime_ns: int) -> None:
    entry = GOOD._replace(mtime_ns=mtime_ns)
    assert listings.decode_foreign(listings.encode([entry]), ENTRIES_MAX) == (entry,)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(GOOD._replace(name=b"x" * 255), id="longest name"),
        pytest.param(GOOD._replace(name=b"\xff\n\t -rf"), id="a name that is no text"),
        pytest.param(GOOD._replace(name=b"..."), id="three dots are a name"),
        pytest.param(GOOD._replace(mode=MODE_MASK), id="every mode bit but world-write"),
        pytest.param(GOOD._replace(size_bytes=SIZE_MAX_BYTES), id="largest file"),
        pytest.param(GOOD._replace(link_group=b"12345678"), id="a hard-link group"),
        pytest.param(Entry(b"l", SYMLINK, 0o775, 0, 0, b"/" * PATH_MAX_BYTES), id="longest target"),
        pytest.param(Entry(b"l", SYMLINK, 0o775, 0, 0, b"../.."), id="a link that leads out"),
        pytest.param(Entry(b"d", DIRECTORY, 0o700, 0, 0, b""), id="a directory"),
    ],
)
def test_accepts(entry: Entry) -> None:
    assert listings.decode_foreign(listings.encode([entry]), ENTRIES_MAX) == (entry,)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(raw(name=b""), id="no name"),
        pytest.param(raw(name=b"."), id="this directory"),
        pytest.param(raw(name=b".."), id="the directory above"),
        pytest.param(raw(name=b"a/b"), id="two components"),
        pytest.param(raw(name=b"/etc"), id="an absolute path"),
        pytest.param(raw(name=b"a\0b"), id="NUL in a name"),
        pytest.param(raw(name=b"x" * 256), id="name too long"),
        pytest.param(raw(mode=0o646), id="world-writable"),
        pytest.param(raw(mode=0o100644), id="kind bits in the mode"),
        pytest.param(raw(kind=0), id="no kind"),
        pytest.param(raw(kind=4), id="unknown kind"),
        pytest.param(raw(kind=0x7F), id="another unknown kind"),
        pytest.param(raw(content=DIGEST[:31]), id="short digest"),
        pytest.param(raw(content=DIGEST + b"x"), id="long digest"),
        pytest.param(raw(content=b""), id="file without digest"),
        pytest.param(raw(size_bytes=SIZE_MAX_BYTES + 1), id="absurd size"),
        pytest.param(raw(kind=SYMLINK, content=b"", size_bytes=0), id="link to nothing"),
        pytest.param(raw(kind=SYMLINK, content=b"a\0b", size_bytes=0), id="NUL in a target"),
        pytest.param(raw(kind=SYMLINK, content=b"x" * 4096, size_bytes=0), id="target too long"),
        pytest.param(raw(kind=SYMLINK, content=b"t", size_bytes=1), id="link with a size"),
        pytest.param(raw(kind=DIRECTORY, content=b"x", size_bytes=0), id="directory with content"),
        pytest.param(raw(kind=DIRECTORY, content=b"", size_bytes=1), id="directory with a size"),
        pytest.param(raw(kind=DIRECTORY | 0x80, content=b"", size_bytes=0, group=b"8" * 8),
                     id="directory in a link group"),
        pytest.param(raw(kind=SYMLINK | 0x80, content=b"t", size_bytes=0, group=b"8" * 8),
                     id="link in a link group"),
        pytest.param(raw(kind=FILE | 0x80, group=b"1234567"), id="short link group"),
        pytest.param(raw(kind=FILE | 0x80), id="link group missing"),
        pytest.param(raw(b"b") + raw(b"a"), id="not in order"),
        pytest.param(raw(b"a") + raw(b"a"), id="a name twice"),
        pytest.param(raw() + b"x", id="a stray byte"),
        pytest.param(raw()[:-1], id="the last byte missing"),
        pytest.param(raw()[:10], id="half a head"),
    ],
)  # fmt: skip
def test_damaged_listing_is_refused(rows: bytes) -> None:
    with pytest.raises(InvalidEntry):
        listings.decode_foreign(rows, ENTRIES_MAX)


@few
@given(trees(), st.data())
def test_a_cut_listing_is_refused_or_shorter(nodes: dict[bytes, Node], data: st.DataObject) -> None:
    rows = max(manifest_of(nodes).directories.values(), key=len)
    cut = rows[: data.draw(st.integers(0, len(rows)))]
    try:
        entries = listings.decode_foreign(cut, ENTRIES_MAX)
    except InvalidEntry:
        return
    assert listings.encode(entries) == cut


@given(st.binary(max_size=200))
def test_noise_is_refused_by_name(noise: bytes) -> None:
    try:
        assert listings.encode(listings.decode_foreign(noise, ENTRIES_MAX)) == noise
    except InvalidEntry:
        pass
