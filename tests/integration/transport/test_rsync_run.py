"""rsync is never left behind, however the process ends that started it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envsync.agent.server import rsync_run
from envsync.agent.source.direct_send import reach
from tests.support.processes import children, wait_until

_RUNS = """
import sys
from envsync.agent.server.rsync_run import RsyncRun
sys.exit(RsyncRun([b"sleep", b"600"], print).finish([]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_rsync_ends_with_the_process_that_started_it(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _RUNS], stderr=subprocess.DEVNULL) as starter:
        try:
            wait_until(lambda: _sleeping(starter.pid), "the command runs")
            [command] = _sleeping(starter.pid)
            starter.send_signal(number)
            starter.wait(10)
            wait_until(lambda: not _runs(command), "the command has ended")
        finally:
            starter.kill()


def test_rsync_that_closed_its_output_and_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rsync_run, "_STALL_SECONDS", 0.2)
    run = rsync_run.RsyncRun([b"sh", b"-c", b"exec >&-; exec sleep 600"], lambda _: None)
    assert run.finish([]) == -signal.SIGKILL


@pytest.mark.parametrize("what", ["interpreter", "kernel"])
def test_paths_are_told_where_there_are_no_files_in_memory(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The interpreter was built against an old glibc, or the kernel is before Linux 3.17."""
    if what == "interpreter":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", _unknown_to_kernel)
    heard: list[bytes] = []
    assert rsync_run.RsyncRun([b"cat"], heard.append).finish([b"lib/a", b"lib/b"]) == 0
    assert b"".join(heard) == b"./lib/a\0./lib/b\0"


def _unknown_to_kernel(_: str) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _sleeping(pid: int) -> list[int]:
    """Its children that have become the command."""
    return [child for child in children(pid) if _words(child)[0] == b"sleep"]


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return _words(pid)[0] == b"sleep"


def test_an_ssh_that_may_not_be_run_gets_in_nowhere(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.touch(0o600)
    found = reach([[str(ssh), "server2"], [str(ssh), "10.0.0.2"]])
    assert found.which == -1
    assert "Permission denied" in found.reason
