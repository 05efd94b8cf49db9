"""What only rsync does: deltas, a receiver that is locked out, two processes that may die."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.errors import EnvsyncError, Locked, TransferFailed
from envsync.transport.job import Job, Sent
from envsync.transport.rsync import RsyncTransport
from tests.integration.transport.two_ends import StagedPush, TwoEnds
from tests.support.processes import wait_until

WAIT_SECONDS = 30.0


class Sending(threading.Thread):
    """`send` in a thread of its own."""

    def __init__(self, job: Job) -> None:
        super().__init__(daemon=True)
        self._job = job
        self.sent: Sent | None = None
        self.error: EnvsyncError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.sent = RsyncTransport().send(self._job)
        except EnvsyncError as error:
            self.error = error

    def ended(self) -> EnvsyncError:
        self.join(WAIT_SECONDS)
        assert self.error is not None
        return self.error


def is_locked(ends: TwoEnds) -> bool:
    with (ends.state / "writers").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def rsyncs(*needles: str) -> list[int]:
    """Processes of rsync that have all of these in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                where = str((entry / "cwd").readlink())
            except OSError:
                continue
            text = b" ".join(words).decode(errors="replace") + " " + where
            if words[0].endswith(b"rsync") and all(needle in text for needle in needles):
                found.append(int(entry.name))
    return found


def kill(pids: list[int]) -> None:
    """One may end by the end of another."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def slow_transfer(ends: TwoEnds) -> Iterator[tuple[StagedPush, Sending]]:
    """One that would take a minute, and has begun to write."""
    for number in range(8):
        ends.write(b"large%d" % number, os.urandom(1 << 20))
    push = ends.begin()
    sending = Sending(push.limited(1_000_000))
    try:
        wait_until(
            lambda: any((ends.state / "rsync-temporary").glob("*")),
            "bytes arrive",
            timeout_seconds=WAIT_SECONDS,
        )
        yield push, sending
    finally:
        kill(rsyncs(str(ends.state)))
        sending.join(WAIT_SECONDS)


def test_a_change_in_a_large_file_goes_as_a_delta(ends: TwoEnds) -> None:
    content = os.urandom(8 << 20)
    ends.write(b"lib/large.so", content)
    push = ends.begin()
    RsyncTransport().send(push.job)
    push.target.complete()
    push.publish("rsync")
    push.close()
    before = (ends.live / "lib/large.so").stat()

    ends.write(b"lib/large.so", content[:4_000_000] + b"inserted" + content[4_000_000:])
    again = ends.begin()
    sent = RsyncTransport().send(again.job)

    assert sent.wire_bytes is not None
    assert sent.wire_bytes < 200_000
    assert again.staged_files()[b"lib/large.so"] == ends.source_files()[b"lib/large.so"]
    assert (ends.live / "lib/large.so").stat() == before
    assert before.st_nlink == 1
    assert Path(again.job.tree, "lib/large.so").stat().st_ino != before.st_ino


def test_a_receiver_of_an_earlier_push_is_refused(ends: TwoEnds) -> None:
    ends.write(b"file", b"content")
    early = ends.begin()
    early.close()
    late = ends.begin()
    job = replace(early.job, target=late.job.target)

    with pytest.raises(Locked, match="another push"):
        RsyncTransport().send(job)

    assert late.staged_files() == {}
    assert not is_locked(ends)


def test_the_lock_lives_as_long_as_the_receiver(ends: TwoEnds) -> None:
    with slow_transfer(ends) as (push, sending):
        assert is_locked(ends)
        [local] = rsyncs("--files-from", push.job.tree.rpartition("/trees/")[0])
        os.kill(local, signal.SIGKILL)
        error = sending.ended()
        assert isinstance(error, TransferFailed)
        assert "killed" in error.message
        wait_until(lambda: not is_locked(ends), "no receiver is left", timeout_seconds=WAIT_SECONDS)


def test_the_receiver_is_killed(ends: TwoEnds) -> None:
    with slow_transfer(ends) as (push, sending):
        receivers = rsyncs("--server", push.job.tree)
        assert receivers
        kill(receivers)
        error = sending.ended()
    assert isinstance(error, TransferFailed)
    assert error.server == "loopback"
    assert error.hint

    # The agent is alive, and the same push may go on.
    assert RsyncTransport().send(push.job).failed == ()
    push.target.complete()
    assert push.staged_files() == ends.source_files()


def test_no_rsync_is_left_when_the_sender_stops(ends: TwoEnds) -> None:
    class Stop(Exception):
        pass

    def stop(sent_bytes: int) -> None:
        if sent_bytes:
            raise Stop

    ends.write(b"large", os.urandom(4 << 20))
    push = ends.begin()
    job = replace(push.with_progress(stop), limit_bits_per_second=4_000_000)
    with pytest.raises(Stop):
        RsyncTransport().send(job)
    assert rsyncs("--files-from", str(ends.state)) == []
    wait_until(lambda: not is_locked(ends), "no receiver is left", timeout_seconds=WAIT_SECONDS)


def test_rsync_is_refused_where_it_cannot_work(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ends.write(b"file", b"content")
    job = ends.begin().job
    assert (
        RsyncTransport().refusal(replace(job, target=replace(job.target, link=None)))
        == "the target is this machine"
    )
    odd = replace(job, target=replace(job.target, python="/opt/it's here/python"))
    assert "path of Python" in str(RsyncTransport().refusal(odd))
    chatty = replace(job, target=replace(job.target, prints_at_login=True))
    assert "login files print something" in str(RsyncTransport().refusal(chatty))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert RsyncTransport().refusal(job) == "there is no rsync on this machine"
