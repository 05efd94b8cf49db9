"""What `envsync gc` says of a server."""

from __future__ import annotations

from envsync.agent.wire.messages import GcFacts, SweepFacts
from envsync.cli.commands.gc import _lines


def test_who_makes_a_tree_for_the_next_push_is_told_as_that() -> None:
    swept = SweepFacts("myenv", (3,), 0, 2_000_000, (), "", (), "alice@server1, process 12")
    assert list(_lines("server2", GcFacts((swept,), 0, 0), dry_run=True)) == [
        "myenv on server2: 1 earlier version: 2.0 MB would be freed",
        "  a tree is being made there for the next push: alice@server1, process 12",
        "  without --dry-run that ends, and what there is of it goes",
    ]
    idle = swept._replace(generations=(), size_bytes=0)
    first, *_ = _lines("server2", GcFacts((idle,), 0, 0), dry_run=True)
    assert first == "myenv on server2: nothing to free"
