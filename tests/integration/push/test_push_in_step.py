"""A push with nothing to do hashes no file, and exchanges next to nothing with the server."""

from __future__ import annotations

from typing import Any

import pytest

from envsync.agent.operations import bundle
from envsync.agent.trees.hashing import Hashing
from envsync.push.steps.report import IN_STEP, PUSHED
from tests.integration.push.lying import FILES, NAME, LyingAgent, SocketSession, scenery

MORE_FILES = 1000
BYTES_MAX = 4000
"""Of all questions, and of all answers. The first push has many times as many."""


class Counted:
    """What was hashed at both ends, and sent and received by the command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashed = self.sent_bytes = self.received_bytes = 0
        files, read, write = Hashing.files, SocketSession.read, SocketSession.write

        def counted_files(hashing: Hashing, top_fd: int, parts: Any, *more: Any) -> Any:
            self.hashed += sum(len(part.items()) for part in parts)
            return files(hashing, top_fd, parts, *more)

        def counted_read(session: SocketSession, size: int) -> bytes:
            data = read(session, size)
            self.received_bytes += len(data)
            return data

        def counted_write(session: SocketSession, data: bytes) -> None:
            self.sent_bytes += len(data)
            write(session, data)

        monkeypatch.setattr(Hashing, "files", counted_files)
        monkeypatch.setattr(SocketSession, "read", counted_read)
        monkeypatch.setattr(SocketSession, "write", counted_write)


def test_push_with_nothing_to_do_hashes_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with scenery() as scene:
        top = scene.source_prefix / "envs" / NAME / "share"
        top.mkdir()
        for number in range(MORE_FILES):
            (top / f"a file with number {number}").write_text(f"{number}\n")
        prefix, counted = scene.target(), Counted(monkeypatch)
        assert scene.push(LyingAgent(lambda *_: None).serve, prefix).outcome == PUSHED
        agents_bytes = len(bundle.modules(bundle.OUR_MAGIC))
        assert counted.hashed == MORE_FILES + len(FILES)
        assert counted.sent_bytes - agents_bytes > 10 * BYTES_MAX
        assert counted.received_bytes > BYTES_MAX
        agent, counted = LyingAgent(lambda *_: None), Counted(monkeypatch)
        assert scene.push(agent.serve, prefix).outcome == IN_STEP
    assert agent.asked == ["target.open", "target.inspect"]
    assert counted.hashed == 0
    assert counted.sent_bytes - agents_bytes < BYTES_MAX
    assert counted.received_bytes < BYTES_MAX
