"""A push that removes says how much, compared with what stood there, whatever it is built on."""

from __future__ import annotations

from pathlib import Path

from tests.integration.push.local_pair import LocalPair
from tests.support.trees import file


def test_removed_files_are_counted(own_homes: None, tmp_path: Path) -> None:
    """The first update is built on nothing, the second on the first version."""
    pair = LocalPair(tmp_path, {b"lib/%d" % number: file(b"%d" % number) for number in range(9)})
    first = pair.push(keep=1).plan
    assert first is not None
    assert (first.fetch_files > 0, first.removed_files) == (True, 0)
    entries = []
    for number in range(2):
        (pair.source / f"lib/{number}").unlink()
        planned, pushed = pair.push(keep=1, dry_run=True).plan, pair.push(keep=1).plan
        assert planned is not None
        assert pushed is not None
        assert planned.removed_files == pushed.removed_files == 1
        assert planned.fetch_files == pushed.fetch_files == 0
        entries.append(pushed.remove_entries)
    assert entries == [0, 2]
