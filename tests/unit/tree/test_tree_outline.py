"""An outline: a manifest whose files nobody has hashed yet."""

from __future__ import annotations

from envsync.tree import manifest as manifests
from envsync.tree.entry import DIRECTORY, FILE, SYMLINK, Entry
from envsync.tree.listing import encode, link_group
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.outline import files, placeholder, plan_whole
from envsync.tree.plan import plan

GROUP = link_group(b"a")


def a_file(name: bytes, inode: int, group: bytes = b"") -> Entry:
    return Entry(name, FILE, 0o644, 7, 1, placeholder(inode), group)


OUTLINE = Manifest(
    {
        b"": encode(
            [
                a_file(b"a", 1, GROUP),
                a_file(b"b", 1, GROUP),
                Entry(b"d", DIRECTORY, 0o755, 0, 1, b""),
                Entry(b"e", SYMLINK, 0o775, 0, 1, b"a"),
            ]
        ),
        b"d": encode([a_file(b"f", 2), a_file(b"g", (1 << 64) - 1)]),
    },
    0o755,
    1,
)


def test_outline_survives_a_round_trip_as_a_manifest() -> None:
    assert manifests.decode(manifests.encode(OUTLINE)) == OUTLINE


def test_every_file_is_fetched_once_and_may_be_anything() -> None:
    work = plan_whole(OUTLINE)
    assert [(path, entry.size_bytes) for path, entry in work.fetches] == list(files(OUTLINE))
    assert [path for path, _ in work.fetches] == [b"a", b"d/f", b"d/g"]
    assert all(entry.content == b"" for _, entry in work.fetches)


def test_plan_of_an_outline_equals_a_plan_from_nothing() -> None:
    whole, ordinary = plan_whole(OUTLINE), plan(OUTLINE, EMPTY)
    assert {make.path for make in whole.fetches} == {make.path for make in ordinary.fetches}
    for step in set(whole._fields) - {"fetches"}:
        assert getattr(whole, step) == getattr(ordinary, step), step
