"""The environment's own check: run as a user would, bounded, killed as a group."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.publishing import check_process as checks
from envsync.agent.publishing.check import CheckFailure, run_check
from envsync.agent.publishing.check_process import CHECK_OUTPUT_LINES
from envsync.agent.trees.removal import remove_tree
from tests.support.processes import is_running, wait_until


def check(command: str, live: Path, timeout_seconds: float = 20.0) -> CheckFailure | None:
    return run_check(command, timeout_seconds, os.fsencode(live), os.fsencode(live.parent))


@pytest.mark.parametrize("command", ["", "true", "exit 0", "echo fine; echo well >&2"])
def test_check_succeeds(command: str, tmp_path: Path) -> None:
    assert check(command, tmp_path) is None


@pytest.mark.parametrize(
    ("command", "summary", "output"),
    [
        ("exit 3", "exit status 3", ()),
        ("no-such-command-here", "exit status 127", None),
        ("kill -9 $$", "exit status -9", ()),
        ("echo out; echo err >&2; false", "exit status 1", ("out", "err")),
        ("if", "exit status 2", None),
        (r"printf 'bad \377 byte'; false", "exit status 1", ("bad \\xff byte",)),
    ],
)
def test_check_fails_with_its_output(
    command: str, summary: str, output: tuple[str, ...] | None, tmp_path: Path
) -> None:
    failure = check(command, tmp_path)
    assert failure is not None
    assert failure.summary == summary
    assert output is None or failure.output == output


@pytest.mark.parametrize("command", [": " + "x" * 200_000, "true \0"], ids=["too long", "NUL"])
def test_check_that_cannot_be_run_has_failed(command: str, tmp_path: Path) -> None:
    """And says nothing of the environment."""
    failure = check(command, tmp_path)
    assert failure is not None
    assert failure.summary.startswith("it could not be run: ")
    assert not failure.is_verdict


def test_an_environment_that_has_gone_meanwhile(tmp_path: Path) -> None:
    failure = check("true", tmp_path / "gone")
    assert failure is not None
    assert not failure.is_verdict


def test_only_the_end_of_long_output_is_kept(tmp_path: Path) -> None:
    failure = check("seq 1 30000; false", tmp_path)
    assert failure is not None
    assert failure.output == tuple(str(n) for n in range(30001 - CHECK_OUTPUT_LINES, 30001))


def test_check_runs_as_if_the_environment_were_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "x")
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "tool"
    tool.write_text(
        f'#!/bin/sh\n[ "$CONDA_PREFIX" = {tmp_path} ] && [ -z "$SECRET_OF_THE_AGENT" ]\n'
    )
    tool.chmod(0o755)
    assert check("tool", tmp_path) is None
    assert check('read line; [ -z "$line" ]', tmp_path) is None, "stdin is closed"


@pytest.mark.parametrize("end", ["true", "false"])
def test_files_that_a_check_writes_where_it_runs_are_removed(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, scratch = tmp_path / "live", tmp_path / "tmp"
    live.mkdir()
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    asked = "stat -c %a . > $CONDA_PREFIX/mode; mkdir -p closed/x && echo x > closed/x/report.txt"
    check(f"{asked}; chmod 0 closed; {end}", live)
    assert (live / "mode").read_text() == "700\n"
    assert {path.name for path in tmp_path.rglob("*")} == {"live", "tmp", "mode"}


def _all_but(anothers: bytes) -> Callable[[bytes], None]:
    """What removes a directory that is this user's."""

    def remove(path: bytes) -> None:
        if path == anothers:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        remove_tree(path)

    return remove


@pytest.mark.parametrize("who", ["its agent", "another user"])
def test_directory_of_a_killed_check_is_removed_by_the_next(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another user has something at its name, it runs elsewhere."""
    live, scratch = tmp_path / "live", tmp_path / "tmp"
    live.mkdir()
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    check("pwd > $CONDA_PREFIX/first", live)
    left = Path((live / "first").read_text().strip())
    (left / "report").mkdir(parents=True)
    if who == "another user":
        monkeypatch.setattr(checks, "remove_tree", _all_but(bytes(left)))
    assert check('test -z "$(ls)" && test $(stat -c %a .) = 700', live) is None
    assert list(scratch.iterdir()) == [left] * (who == "another user")


def test_check_that_takes_too_long_is_killed_with_all_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    command = "sleep 61 & echo $! > $CONDA_PREFIX/child; echo started; sleep 62"
    failure = check(command, tmp_path, 0.5)
    assert time.monotonic() - began < 20
    assert failure == CheckFailure("timed out after 0.5 s", ("started",))
    require_gone(int((tmp_path / "child").read_text()))


def test_process_that_a_check_leaves_behind_is_killed(tmp_path: Path) -> None:
    assert check("sleep 63 & echo $! > $CONDA_PREFIX/child", tmp_path) is None
    require_gone(int((tmp_path / "child").read_text()))


def require_gone(pid: int) -> None:
    """The process ends within seconds; a dead one that nobody waited for counts as gone."""
    wait_until(lambda: not is_running(pid), f"process {pid} has ended")


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_process_that_may_not_be_killed_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set-user-ID program that the shell has become."""
    groups: list[int] = []
    kill = os.killpg

    def refuse(group: int, _: int) -> None:
        groups.append(group)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "killpg", refuse)
    monkeypatch.setattr(checks, "KILLED_SECONDS", 0.1)
    try:
        failure = check("exec sleep 50", tmp_path, 0.1)
    finally:
        kill(groups[0], signal.SIGKILL)
        os.waitpid(groups[0], 0)
    assert failure == CheckFailure("timed out after 0.1 s", ())
