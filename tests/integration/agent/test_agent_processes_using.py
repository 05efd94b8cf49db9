"""Which processes use an environment: of another user's, only the command line tells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from envsync.agent.server import processes
from envsync.agent.server.accounts import user_name
from envsync.agent.server.file_workers import WORKER_MARK
from envsync.agent.server.processes import ServerProcess, processes_using
from envsync.agent.wire.messages import ProcessUse

Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that has said that it is there, and ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(*argv: str, program: str | None = None) -> int:
        process = subprocess.Popen(
            argv, executable=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        return process.pid

    yield start_one
    for process in started:
        process.communicate(timeout=20)


def test_of_another_users_processes_the_program_or_its_script_tells(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "real/envs/myenv"
    top.mkdir(parents=True)
    (tmp_path / "prefix").symlink_to("real")
    named, waits = tmp_path / "prefix/envs/myenv", "print('here', flush=True); input()"
    (top / "job.py").write_text(waits)
    users = {
        start(f"{named}/bin/python", "-c", waits, program=sys.executable),
        start(f"{top}/bin/python", "-c", waits, program=sys.executable),
        start(sys.executable, "-u", f"{named}/job.py"),
    }
    start(sys.executable, "-c", waits, f"{named}/job.py")
    start(f"{named}-2/bin/python", "-c", waits, program=sys.executable)
    start(f"{named}/bin/python", "-c", f"# an envsync worker\n{waits}", program=sys.executable)
    own = os.geteuid()
    assert not _users(named), "what is one's own is known better"
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    found = _users(named)
    assert {use.pid for use in found} == users
    assert {use.user for use in found} == {user_name(own)}
    assert f"{sys.executable} -u {named}/job.py" in {use.command for use in found}


def test_process_that_ends_while_it_is_asked_about_is_nobodys() -> None:
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL) as job:
        process = ServerProcess(job.pid)
        assert process.use() == ProcessUse(job.pid, "sleep 60", "")
        job.kill()
    assert process.use() == ProcessUse(job.pid, "sleep 60", "")
    assert not process.is_own


def test_process_that_maps_a_copy_elsewhere_does_not_use_this_one(
    tmp_path: Path, start: Start
) -> None:
    """As where a whole disk is mounted: the paths end alike."""
    for top, is_used in ((tmp_path / "mnt" / tmp_path.relative_to("/"), False), (tmp_path, True)):
        file = top / "env/lib.so"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"library")
        mapped = f"file = open({str(file)!r}, 'r+b'); mapped = mmap.mmap(file.fileno(), 0)"
        then = "file.close(); print('here', flush=True); input()"
        pid = start(sys.executable, "-c", f"import mmap; {mapped}; {then}")
        assert [use.pid for use in _users(tmp_path / "env")] == ([pid] if is_used else [])


def test_a_process_that_starts_a_program_is_asked_again_who_it_is(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command line is empty for a moment, while it has the files of an agent open."""
    reader = f"# {os.fsdecode(WORKER_MARK)}\nfile = open({str(tmp_path)!r} + '/module.py')\n"
    (tmp_path / "module.py").touch()
    pid = start(sys.executable, "-c", f"{reader}print('here', flush=True); input()")
    asked: list[str] = []

    def open_later(path: str, mode: str) -> IO[Any]:
        if path == f"/proc/{pid}/cmdline":
            asked.append(path)
        return open(os.devnull if asked == [path] else path, mode)

    monkeypatch.setattr(processes, "open", open_later, raising=False)
    assert _users(tmp_path) == ()
    assert len(asked) == 2


def _users(path: Path) -> tuple[ProcessUse, ...]:
    return processes_using([os.fsencode(path)], os.fsencode(path / "writers"))
