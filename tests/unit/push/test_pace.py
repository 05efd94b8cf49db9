"""How far a push is, as it is told."""

from __future__ import annotations

from envsync.push.steps.pace import Pace
from envsync.push.steps.report import Progress


def test_bytes_and_files_of_a_step_are_told_together() -> None:
    told: list[Progress] = []
    pace = Pace("server2", told.append)
    pace.begin("transfer", 100)
    pace.sent(40)
    pace.sent_files(3)
    pace.sent(60)
    pace.sent_files(2)
    assert told[-1] == Progress("server2", "transfer", 100, 100, 5)
    pace.begin("verify")
    pace.relay({"verify_bytes": 7, "other": 3})
    assert told[-1] == Progress("server2", "verify", 7)
