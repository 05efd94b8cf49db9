"""How far a push is, as it is told."""

from __future__ import annotations

from envsync.agent.wire.figures import VERIFIED_BYTES
from envsync.push.steps.progress import ProgressTracker
from envsync.push.steps.report import ServerProgress


def test_bytes_and_files_of_a_step_are_told_together() -> None:
    told: list[ServerProgress] = []
    progress = ProgressTracker("server2", told.append)
    progress.begin("transfer", 100)
    progress.sent(40)
    progress.sent_files(3)
    progress.sent(60)
    progress.sent_files(2)
    assert told[-1] == ServerProgress("server2", "transfer", 100, 100, 5)
    progress.begin("verify")
    progress.relay(VERIFIED_BYTES, 7)
    progress.relay("other", 3)
    assert told[-1] == ServerProgress("server2", "verify", 7)
