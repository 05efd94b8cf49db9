"""Modes of a shared environment: a table."""

from __future__ import annotations

import pytest

from envsync.tree.entry import DIRECTORY, FILE, SYMLINK, Entry
from envsync.tree.listing import encode
from envsync.tree.manifest import Manifest, check
from envsync.tree.sharing import READ, WRITE, shared, shared_mode


@pytest.mark.parametrize(
    ("mode", "what", "is_directory", "shared"),
    [
        (0o600, READ, False, 0o640),
        (0o644, READ, False, 0o644),
        (0o664, READ, False, 0o644),
        (0o755, READ, False, 0o755),
        (0o700, READ, True, 0o2750),
        (0o755, READ, True, 0o2755),
        (0o500, WRITE, True, 0o2550),
        (0o600, WRITE, False, 0o660),
        (0o644, WRITE, False, 0o664),
        (0o755, WRITE, True, 0o2775),
        (0o400, WRITE, False, 0o440),
    ],
)
def test_mode_of_a_shared_entry(mode: int, what: str, is_directory: bool, shared: int) -> None:
    assert shared_mode(mode, what, is_directory=is_directory) == shared
    assert shared_mode(shared, what, is_directory=is_directory) == shared
    assert not shared & 0o002


def test_sharing_changes_only_modes() -> None:
    digest = b"d" * 32
    entries = [
        Entry(b"a", FILE, 0o600, 3, 5, digest, b""),
        Entry(b"d", DIRECTORY, 0o700, 0, 5, b"", b""),
        Entry(b"l", SYMLINK, 0o777 & ~0o002, 0, 5, b"a", b""),
    ]
    manifest = Manifest({b"": encode(entries), b"d": b""}, 0o755, 7)
    told = shared(manifest, READ)
    check(told)
    assert [entry._replace(mode=0) for entry in told.entries(b"")] == [
        entry._replace(mode=0) for entry in entries
    ]
    assert [entry.mode for entry in told.entries(b"")] == [0o640, 0o2750, 0o775]
    assert (told.mode, told.mtime_ns) == (0o2755, 7)
