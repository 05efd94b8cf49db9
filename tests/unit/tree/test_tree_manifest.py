"""Manifests as bytes: round trips, references, and everything that is refused."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.tree import listing as listings
from envsync.tree import manifest as manifests
from envsync.tree.entry import FILE, InvalidEntry, check_name, split
from envsync.tree.manifest import EMPTY, Manifest, Totals
from tests.support.trees import (
    Node,
    directory,
    entry_of,
    few,
    file,
    manifest_of,
    pairs,
    symlink,
    totals_of,
    trees,
    walk,
    with_parents,
)

MAGIC = b"envsync manifest 1\n"
WHOLE, REFERENCE = 0, 1


def raw(directories: list[tuple[bytes, bytes]], mode: int = 0o755, count: int = -1) -> bytes:
    """A manifest by hand, so that it may be wrong."""
    parts = [MAGIC, struct.pack("<HqI", mode, 0, len(directories) if count < 0 else count)]
    for path, rows in directories:
        parts += [struct.pack("<BII", WHOLE, len(path), len(rows)), path, rows]
    return b"".join(parts)


def rows_of(**nodes: Node) -> bytes:
    return listings.encode([entry_of(n.encode(), nodes[n]) for n in sorted(nodes)])


DIR = rows_of(d=directory())


# --- round trips ------------------------------------------------------------------------


@few
@given(trees())
def test_encoded_manifest_is_decoded_to_the_same(nodes: dict[bytes, Node]) -> None:
    manifest = manifest_of(nodes)
    assert manifests.decode(manifests.encode(manifest)) == manifest


@few
@given(pairs())
def test_encoded_manifest_holds_only_what_the_other_side_lacks(
    pair: tuple[dict[bytes, Node], dict[bytes, Node]],
) -> None:
    here, there = map(manifest_of, pair)
    encoded = manifests.encode(here, manifests.references(there))
    assert manifests.decode(encoded, there) == here
    assert len(manifests.encode(here, manifests.references(here))) <= len(
        manifests.encode(here)
    ) + 12 * len(here.directories)


@few
@given(trees())
def test_a_reference_without_its_base_is_refused(nodes: dict[bytes, Node]) -> None:
    manifest = manifest_of(nodes)
    encoded = manifests.encode(manifest, manifests.references(manifest))
    with pytest.raises(InvalidEntry):
        manifests.decode(encoded, EMPTY)


def test_a_reference_means_path_and_listing() -> None:
    """Two directories with the same bytes are two; the same path with other bytes is another."""
    marks = {
        manifests.reference(b"a", DIR),
        manifests.reference(b"b", DIR),
        manifests.reference(b"a", b""),
        manifests.reference(b"", DIR),
    }
    assert len(marks) == 4


@few
@given(pairs())
def test_digest_tells_manifests_apart(
    pair: tuple[dict[bytes, Node], dict[bytes, Node]],
) -> None:
    one, two = map(manifest_of, pair)
    assert (manifests.digest(one) == manifests.digest(two)) == (one == two)


def test_digest_covers_the_top_directory_itself() -> None:
    plain = manifest_of({})
    others = [plain._replace(mode=0o700), plain._replace(mtime_ns=1)]
    assert len({manifests.digest(m) for m in [plain, *others]}) == 3


@few
@given(trees())
def test_walk_find_and_totals_agree_with_the_tree(nodes: dict[bytes, Node]) -> None:
    manifest = manifest_of(nodes)
    assert dict(walk(manifest)).keys() == nodes.keys()
    assert {path for path, _ in walk(manifest)} == nodes.keys()
    seen: set[bytes] = set()
    for path, entry in walk(manifest):
        assert manifest.find(path) == entry
        assert split(path)[0] in seen | {b""}, "a directory comes before what is in it"
        seen.add(path)
    assert manifest.find(b"no/such/path") is None
    files = [node for node in nodes.values() if node.kind == FILE]
    inodes = {node.inode: len(node.data) for node in files if node.inode}
    once = sum(inodes.values()) + sum(len(node.data) for node in files if not node.inode)
    assert totals_of(manifest) == Totals(len(nodes), len(files), once)


# --- refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(MAGIC[:-1], id="half the magic"),
        pytest.param(b"envsync manifest 2\n" + raw([])[len(MAGIC):], id="another version"),
        pytest.param(MAGIC, id="no head"),
        pytest.param(raw([]), id="no top directory"),
        pytest.param(raw([(b"", b"")], mode=0o777), id="top directory world-writable"),
        pytest.param(raw([(b"", b"")], mode=0o40755), id="kind bits in the top's mode"),
        pytest.param(raw([(b"", b"")], count=2), id="fewer directories than announced"),
        pytest.param(raw([(b"", b"")], count=0xFFFFFFFF), id="absurd count"),
        pytest.param(raw([(b"", b""), (b"", b"")], count=1), id="more than announced"),
        pytest.param(raw([(b"", b"")]) + b"x", id="stray byte"),
        pytest.param(raw([(b"", b""), (b"", b"")]), id="top directory twice"),
        pytest.param(raw([(b"", DIR), (b"d", b""), (b"d", b"")]), id="a directory twice"),
        pytest.param(raw([(b"", DIR)]), id="a directory without its listing"),
        pytest.param(raw([(b"", b""), (b"d", b"")]), id="a listing without its directory"),
        pytest.param(raw([(b"", DIR), (b"d", b""), (b"d/e", b"")]), id="an orphan further down"),
        pytest.param(raw([(b"", rows_of(d=file())), (b"d", b"")]), id="a file with a listing"),
        pytest.param(raw([(b"", rows_of(d=symlink(b"/"))), (b"d", b"")]), id="behind a link"),
        pytest.param(raw([(b"", DIR), (b"/d", b"")]), id="absolute"),
        pytest.param(raw([(b"", DIR), (b"../d", b"")]), id="dot dot"),
        pytest.param(raw([(b"", DIR), (b"d/../d", b"")]), id="dot dot inside"),
        pytest.param(raw([(b"", DIR), (b"./d", b"")]), id="dot"),
        pytest.param(raw([(b"", DIR), (b"d/", b"")]), id="trailing slash"),
        pytest.param(raw([(b"", DIR), (b"d\0", b"")]), id="NUL"),
        pytest.param(MAGIC + struct.pack("<HqI", 0o755, 0, 1)
                     + struct.pack("<BII", WHOLE, 0xFFFFFFFF, 0xFFFFFFFF), id="absurd lengths"),
        pytest.param(MAGIC + struct.pack("<HqI", 0o755, 0, 1)
                     + struct.pack("<BII", REFERENCE, 0, 12) + bytes(12), id="unknown reference"),
        pytest.param(MAGIC + struct.pack("<HqI", 0o755, 0, 1)
                     + struct.pack("<BII", REFERENCE, 0, 0), id="empty reference"),
        pytest.param(MAGIC + struct.pack("<HqI", 0o755, 0, 1)
                     + struct.pack("<BII", 7, 0, 0), id="unknown kind of row"),
    ],
)  # fmt: skip
def test_damaged_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEntry):
        manifests.decode(data)


def test_refuses_a_path_longer_than_a_path_can_be() -> None:
    nodes = with_parents({b"/".join([b"x" * 250] * 17): file()})
    with pytest.raises(InvalidEntry, match="longer"):
        manifests.decode(manifests.encode(manifest_of(nodes)))


def test_accepts_the_longest_path() -> None:
    nodes = with_parents({b"/".join([b"x" * 250] * 16) + b"/" + b"y" * 78: file()})
    manifest = manifest_of(nodes)
    assert manifests.decode(manifests.encode(manifest)) == manifest


@pytest.mark.parametrize("entries_max", [0, 1, 2])
def test_refuses_more_entries_than_allowed(
    entries_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "ENTRIES_MAX", entries_max)
    data = manifests.encode(manifest_of({b"a": file(), b"b": file(), b"d": directory()}))
    with pytest.raises(InvalidEntry, match="more than"):
        manifests.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(raw([(b"", b"")], count=0xFFFFFFFF), id="absurd count"),
        pytest.param(MAGIC + struct.pack("<HqI", 0o755, 0, 1)
                     + struct.pack("<BII", WHOLE, 0xFFFFFFFF, 0xFFFFFFFF), id="absurd lengths"),
        pytest.param(raw([(b"", struct.pack("<BHHHqQ", 1, 0, 0xFFFF, 0xFFFF, 0, 0))]),
                     id="absurd name"),
    ],
)  # fmt: skip
def test_claims_cost_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidEntry):
            manifests.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_flood_of_entries_is_refused_before_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry in memory is ten times its bytes: a listing's length alone must stop it."""
    monkeypatch.setattr(manifests, "ENTRIES_MAX", 1000)
    nodes = {b"%06d" % number: symlink(b"x") for number in range(5_000)}
    data = manifests.encode(manifest_of(nodes))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidEntry, match="more than"):
            manifests.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data)
    finally:
        tracemalloc.stop()


# --- mutations --------------------------------------------------------------------------


@st.composite
def mutations(draw: st.DrawFn) -> tuple[bytes, Manifest]:
    """A valid manifest, damaged somewhere; and the base that it was encoded against."""
    one, two = draw(pairs())
    base = manifest_of(two)
    known = manifests.references(base) if draw(st.booleans()) else {}
    data = manifests.encode(manifest_of(one), known)
    at = draw(st.integers(0, len(data) - 1))
    length = draw(st.integers(1, 40))
    how = draw(st.sampled_from(["cut", "flip", "drop", "repeat", "insert"]))
    if how == "cut":
        return data[:at], base
    if how == "flip":
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :], base
    if how == "drop":
        return data[:at] + data[at + length :], base
    if how == "repeat":
        return data[: at + length] + data[at:], base
    return data[:at] + draw(st.binary(min_size=1, max_size=40)) + data[at:], base


@few
@given(mutations())
def test_a_damaged_manifest_is_refused_or_harmless(case: tuple[bytes, Manifest]) -> None:
    """Whatever is accepted stays inside the tree and is exactly itself again."""
    data, base = case
    try:
        manifest = manifests.decode(data, base)
    except InvalidEntry:
        return
    assert manifests.decode(manifests.encode(manifest)) == manifest
    for path, entry in walk(manifest):
        for name in path.split(b"/"):
            check_name(name)
        assert not entry.mode & 0o002


@given(st.binary(max_size=300))
def test_noise_is_refused_by_name(noise: bytes) -> None:
    with pytest.raises(InvalidEntry):
        manifests.decode(MAGIC + noise)


# --- where contents stand ---------------------------------------------------------------


@given(trees(), st.sampled_from([1, 2, 256]), st.sampled_from([0, 48]), st.data())
def test_places_are_those_of_a_walk(
    tree: dict[bytes, Node], together: int, few_marks: int, data: st.DataObject
) -> None:
    """However many listings are searched at once, and whether they are searched or decoded."""
    manifest = manifest_of(tree)
    files = [(path, entry) for path, entry in walk(manifest) if entry.kind == FILE]
    known = sorted({entry.content for _, entry in files})
    wanted = {
        b"x" * 32,
        *data.draw(st.lists(st.sampled_from(known), unique=True) if known else st.just([])),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "_TOGETHER", together)
        patch.setattr(listings, "FEW_MARKS", few_marks)
        found = manifest.places(wanted)
    expected: dict[bytes, set[bytes]] = {}
    for path, entry in files:
        if entry.content in wanted:
            expected.setdefault(entry.content, set()).add(path)
    assert {content: set(paths) for content, paths in found.items()} == expected


def test_text_across_two_listings_is_in_neither() -> None:
    one, two = b"begins", b"ends"
    found = listings.that_may_hold({b"a": b"--" + one, b"b": two + b"--"}, [one + two, b"--e"])
    assert not [*found]
