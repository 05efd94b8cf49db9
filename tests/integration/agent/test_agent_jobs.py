"""Jobs that go on writing into a version, through what they have open: they are not in the way.

A job may have a log or a database in the environment that it runs from. Whether that is the
version that stands there or an earlier one, nobody waits for it, and nothing of it is lost.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.publishing import guarded_switch
from envsync.agent.server import processes
from envsync.agent.target import switches
from envsync.errors import CheckFailed, PreflightRefused, TargetDrifted
from envsync.tree.revision import revision_of
from tests.support.interference import written_to
from tests.support.pushes import Server, environment, records
from tests.support.trees import file, manifest_of

_JOB = """
import mmap, sys
file = open(sys.argv[1], "r+b", buffering=0)
if sys.argv[2] == "mapped":
    mapped = mmap.mmap(file.fileno(), 0)
    file.close()
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2] == "mapped":
    mapped[0:1] = b"X"
else:
    file.write(b"X")
print("written", flush=True)
sys.stdin.readline()
"""
VERSIONS = [
    environment({b"bin/tool": file(b"version %d" % n, 0o755), b"var/log": file(b"of a job")})
    for n in range(5)
]
REVISIONS = [revision_of(manifest_of(version)) for version in VERSIONS]


def earlier(server: Server) -> bytes:
    (tree,) = server.earlier()
    return tree


def test_an_earlier_version_that_goes_on_changing_is_not_built_upon(server: Server) -> None:
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    tree = earlier(server)
    with written_to(tree + b"/var/log"):
        for version in VERSIONS[2:]:
            server.push(version)
    assert server.revision() == REVISIONS[-1]
    kept = [record for record in records(server).all() if record.kept_because]
    assert [record.inode for record in kept] == [os.stat(tree).st_ino]
    assert len(server.earlier()) == 2, "and it is not in the way of those that may go"


def test_a_job_uses_the_environment_whichever_version_it_runs_on(server: Server) -> None:
    """It opens by path what it opens next, and every other push is built on its version."""
    used: list[tuple[int, ...]] = []
    server.push({**VERSIONS[0], b"bin/sh": file(Path("/bin/sh").read_bytes(), 0o755)})
    argv = [os.fsdecode(server.live) + "/bin/sh", "-c", "echo ready; read line"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"ready\n"
        for version in VERSIONS[1:]:
            server.push(version, before_publish=lambda: used.append(_users(server)))
        job.communicate(b"\n", timeout=20)
    assert used == [(job.pid,)] * 4
    assert _users(server) == ()


def test_process_that_fills_a_staging_tree_uses_no_environment(server: Server) -> None:
    server.push(VERSIONS[0])
    with server.staged(VERSIONS[1]) as push:
        path = push.staging.path
        push.staging.close()
    for before, is_user in (("", True), (f"exec 3<{server.state}/writers; ", False)):
        argv = ["sh", "-c", before + "echo ready; read line"]
        with subprocess.Popen(
            argv, cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert _users(server) == ((process.pid,) if is_user else ())
            process.communicate(b"\n", timeout=20)


def _users(server: Server) -> tuple[int, ...]:
    target = server.target()
    target.inspect(lock=False)
    return tuple(use.pid for use in target.using())


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_an_earlier_version_that_a_job_could_write_into_is_not_built_upon(
    server: Server, how: str
) -> None:
    """It does nothing while the next version is made, and writes into its log after the switch."""
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    with _job(earlier(server) + b"/var/log", how) as write:
        server.push(VERSIONS[2])
        write()
        assert server.revision() == REVISIONS[2]


def test_where_no_process_can_be_seen_no_earlier_version_is_built_upon(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    monkeypatch.setattr(processes, "are_visible", lambda: False)
    monkeypatch.setattr(processes, "processes", lambda: iter(()))
    with _job(earlier(server) + b"/var/log", "open") as write:
        server.push(VERSIONS[2])
        write()
        assert server.revision() == REVISIONS[2]


@pytest.mark.parametrize("below", [b"", b"/var"])
def test_an_earlier_version_that_a_job_works_in_is_not_built_upon(
    server: Server, below: bytes
) -> None:
    """It has nothing open when the next version is chosen, and writes before it is published."""
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    with _working_in(earlier(server) + below) as write:
        record = server.push(VERSIONS[2], before_publish=lambda: write(b"late"))
    assert server.revision() == record.revision == REVISIONS[2]


@pytest.mark.parametrize("keep", [1, 2])
def test_an_earlier_version_that_a_job_works_in_stays_until_the_job_ends(
    server: Server, keep: int
) -> None:
    """However many versions follow; the others are dropped and built upon as always."""
    server.push(VERSIONS[0], keep=keep)
    with _working_in(server.live + b"/var") as write:
        for version in [*VERSIONS[1:], *VERSIONS]:
            server.push(version, keep=keep)
            assert len(server.earlier()) <= keep + 1
        with server.staged(VERSIONS[0]) as push:
            assert push.staging.origin == "spare"
        write(b"late")
        assert len(list(server.state.glob("trees/*/var/late"))) == 1
    server.push(VERSIONS[1], keep=keep)
    server.push(VERSIONS[2], keep=keep)
    kept = [record for record in records(server).all() if record.kept_because]
    assert [record.number for record in kept] == [1]
    assert len(server.earlier()) == keep + 1


def test_version_that_failed_its_check_stays_until_a_job_that_works_in_it_ends(
    server: Server,
) -> None:
    """The job began while that version was live, which is for as long as the check takes."""
    server.push(VERSIONS[0])
    with contextlib.ExitStack() as stack:
        writes: list[Callable[[bytes], None]] = []

        def begin(step: str) -> None:
            if step == "switched":
                writes.append(stack.enter_context(_working_in(server.live + b"/var")))

        with pytest.raises(CheckFailed) as failed:
            server.push(VERSIONS[1], check="false", on_step=begin)
        [tree] = server.earlier()
        [told] = failed.value.details
        assert told.startswith(f"a job may still write into it, in {os.fsdecode(tree)}: ")
        server.push(VERSIONS[2])
        writes[0](b"late")
        assert server.revision() == REVISIONS[2]
        assert len(list(server.state.glob("trees/*/var/late"))) == 1
        assert all(not record.kept_because for record in records(server).all())
    server.push(VERSIONS[3])
    assert len(server.earlier()) == 1


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "tree/var/log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"of a job")
    listdir = os.listdir

    def with_one_that_is_gone(path: Any) -> Any:
        found = listdir(path)
        return ["99999", *found] if str(path).endswith("/fd") else found

    with _job(os.fsencode(log), "open"):
        monkeypatch.setattr(os, "listdir", with_one_that_is_gone)
        assert processes.may_be_written_to(os.fsencode(tmp_path / "tree"))


@contextlib.contextmanager
def _working_in(directory: bytes) -> Iterator[Callable[[bytes], None]]:
    """A shell there; what is yielded has it make a file of that name."""
    with subprocess.Popen(
        ["sh"], cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        to, answers = shell.stdin, shell.stdout

        def write(name: bytes) -> None:
            to.write(b"echo of a job > %s; echo written\n" % name)
            to.flush()
            assert answers.readline() == b"written\n"

        yield write


@contextlib.contextmanager
def _job(log: bytes, how: str) -> Iterator[Callable[[], None]]:
    """A process that has a file open, or mapped; what is yielded has it write."""
    process = subprocess.Popen(
        [sys.executable, "-c", _JOB, os.fsdecode(log), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

        def write() -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"write\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"written\n"

        yield write
        process.stdin.close()


def test_staging_tree_that_goes_on_changing_is_not_built_upon(server: Server) -> None:
    server.push(VERSIONS[0])
    with server.staged(VERSIONS[1]) as push:
        path = push.staging.path
        push.staging.close()
    with open(path + b"/late", "wb"):
        pass
    with written_to(path + b"/late"):
        server.push(VERSIONS[2])
    assert server.revision() == REVISIONS[2]


def test_live_version_that_goes_on_changing_is_not_the_sources_fault(server: Server) -> None:
    server.push(VERSIONS[0])
    with written_to(server.live + b"/var/log"):
        with pytest.raises(PreflightRefused, match="the live version"):
            server.push(VERSIONS[1])
        target = server.target()
        with pytest.raises(PreflightRefused, match="the live version"):
            target.inspect(lock=False)


def test_live_version_that_begins_to_change_during_the_push_is_drift(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for an inspection that is older than what a look at the directories would do for.
    monkeypatch.setattr(guarded_switch, "RECENT_SECONDS", -1.0)
    server.push(VERSIONS[0])
    with contextlib.ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(written_to(server.live + b"/var/log"))

        with pytest.raises(TargetDrifted):
            server.push(VERSIONS[1], before_publish=begin)
    assert server.tree()[b"bin/tool"].data == b"version 0"
    assert not (server.state / "intent.json").exists()


def test_an_earlier_version_that_goes_on_changing_is_not_gone_back_to(server: Server) -> None:
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    with written_to(earlier(server) + b"/var/log"):
        target = server.target()
        with pytest.raises(PreflightRefused, match="keeps changing while it is read"):
            switches.rollback(target, None, "bob@here", overwrite=False)
        target.lock.release()
    assert server.revision() == REVISIONS[1]


def test_damaged_note_of_a_switch_beside_a_job_is_recovered_from(server: Server) -> None:
    """It has no record, and nobody can say what it is: it is kept as it is."""
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    tree = earlier(server)
    for path in (server.state / "generations").glob("000001.*"):
        path.unlink()
    (server.state / "intent.json").write_text("{")
    with written_to(tree + b"/var/log"):
        target = server.target()
        state = target.inspect(lock=True)
        target.lock.release()
    assert state.recovered == "the note of an interrupted switch was damaged"
    [kept] = [record for record in records(server).all() if record.kept_because]
    assert kept.inode == os.stat(tree).st_ino
    server.push(VERSIONS[2])
    assert os.path.isdir(tree)
