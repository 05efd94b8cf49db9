"""What `envsync gc` says of a server."""

from __future__ import annotations

from envsync.agent.wire.server_operations import GcFacts, SweepFacts
from envsync.cli.commands.gc import _lines, _problem


def test_maker_of_a_spare_tree_is_named() -> None:
    swept = SweepFacts("myenv", (3,), size_bytes=2_000_000, making="alice@server1, process 12")
    assert list(_lines("server2", GcFacts((swept,), 0, 0), dry_run=True)) == [
        "myenv on server2: 1 earlier version: 2.0 MB would be freed",
        "  a tree is being made there for the next push: alice@server1, process 12",
        "  without --dry-run it is stopped and removed",
    ]
    idle = swept._replace(generations=(), size_bytes=0)
    first, *_ = _lines("server2", GcFacts((idle,), 0, 0), dry_run=True)
    assert first == "myenv on server2: nothing to free"


def test_place_swept_under_another_name_by_the_same_command_is_no_failure() -> None:
    swept = SweepFacts("myenv", locked="alice@here", same_place_as="server2")
    facts = GcFacts((swept,), 0, 0)
    told = ["myenv on again: it is the same place as server2"]
    assert list(_lines("again", facts, dry_run=False)) == told
    assert _problem("again", facts) is None
    others = GcFacts((swept._replace(same_place_as=""),), 0, 0)
    assert _problem("again", others) is not None
