"""What `envsync verify` prints of many paths."""

from __future__ import annotations

from envsync.agent.wire.messages import RecordFacts
from envsync.agent.wire.target_operations import VerifyFacts
from envsync.cli.commands import verify
from envsync.errors import VerificationFailed
from envsync.push.queries.servers import Outcome
from envsync.tree.manifest import Totals

RECORD = RecordFacts(1, "r", "r", "alice", "server1", 0.0, "mirror", "stream", Totals(), "", "id")


def test_paths_that_a_group_cannot_use_are_named_beside_packages() -> None:
    closed = tuple(f"closed{number}" for number in range(25))
    facts = VerifyFacts(
        "r", RECORD, Totals(), ("a.py",), (), (), closed, (), ("numpy 1.0: 1 file",)
    )
    outcome = Outcome("server2", facts, VerificationFailed("not what was published"))
    first, package, *paths, last = verify._lines("myenv", outcome, verbose=False)
    assert first == "myenv on server2: 1 damaged path, 25 unshared paths"
    assert package == "  numpy 1.0: 1 file"
    assert paths == [f"  unshared    {path}" for path in closed[:20]]
    assert last == "  see all 26 paths with -v"
