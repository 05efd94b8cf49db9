"""What is reported of files that are sent by stream after rsync."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, cast

import pytest

from envsync.agent.wire.source_operations import RsyncEnded
from envsync.agent.wire.transfer_operations import ReceiveFacts
from envsync.transport import direct, rsync, rsync_steps
from envsync.transport.direct import DirectTransport
from envsync.transport.job import Ask, Direct, Job, Receiver, Sent, Supply
from envsync.transport.rsync_output import Output
from envsync.transport.stream import StreamTransport

ITEMS = ((b"a", 1000), (b"b", 2000), (b"c", 7000))


class Told:
    """A job's progress, and the files that went by stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failed: Sequence[bytes] = ()) -> None:
        self.sent_bytes, self.files = list[int](), list[int]()
        self.streamed: list[bytes] = []
        self._failed = failed
        monkeypatch.setattr(StreamTransport, "send", lambda _, job: self._stream(job))

    def job(self, **changes: Any) -> Job:
        target = Receiver(None, cast("Ask", self._ask), "", ())
        given: dict[str, Any] = {
            "supply": Supply(b"/s"), "target": target, "items": ITEMS, "all_fetches": True,
            "tree": "/t", "token": "", "limit_bits_per_second": None,
            "on_sent": self.sent_bytes.append, "on_files": self.files.append,
        }  # fmt: skip
        return Job(**{**given, **changes})

    def _ask(self, *_: object) -> ReceiveFacts:
        return ReceiveFacts(2, tuple(path.decode() for path in self._failed))

    def _stream(self, job: Job) -> Sent:
        for path, size_bytes in job.items:
            self.streamed.append(path)
            job.on_sent(size_bytes // 2)
            job.on_sent(size_bytes - size_bytes // 2)
            job.on_files(1)
        return Sent(0)


class FailingDirect:
    server = "server1"

    def run(self, *_: object) -> Generator[bytes, None, RsyncEnded]:
        yield b"  1500  15%\r"
        yield b"  3000  30%  1MB/s  0:00:01 (xfr#2, to-chk=1/3)\r"
        return RsyncEnded(12, "cut")


def test_file_that_rsync_began_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    monkeypatch.setattr(direct, "_argv", lambda *_: [])
    sent = DirectTransport().send(told.job(supply=Supply(direct=cast("Direct", FailingDirect()))))
    assert sent.instead.startswith("through this machine: rsync from server1 failed")
    assert told.streamed == [b"a", b"b", b"c"]
    assert (sum(told.sent_bytes), sum(told.files)) == (10_000, 3)


@pytest.mark.parametrize("counted_bytes", [3000, 4000])
def test_file_that_rsync_left_is_counted(
    monkeypatch: pytest.MonkeyPatch, counted_bytes: int
) -> None:
    """Of a file that it did not finish, it may have counted a part."""
    told, output = Told(monkeypatch, failed=[b"c"]), Output()
    job = told.job()
    rsync_steps.follow(
        job, output, b"%d  30%%  1MB/s  0:00:01 (xfr#2, to-chk=1/3)\r" % counted_bytes
    )
    rsync_steps.stamped(job, output)
    assert told.streamed == [b"c"]
    assert (sum(told.sent_bytes), sum(told.files)) == (10_000, 3)


def test_file_that_is_rewritten_for_the_target_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    rsync.RsyncTransport().send(told.job(rewritten=frozenset({b"a", b"b", b"c"})))
    assert (sum(told.sent_bytes), sum(told.files)) == (10_000, 3)
