"""`envsync daemon` itself, as a process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from envsync.daemon.control import ask
from envsync.daemon.paths import DaemonPaths


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"]}


@contextlib.contextmanager
def begun(
    home: Path, environ: dict[str, str], stderr: IO[str] | int
) -> Iterator[subprocess.Popen[str]]:
    """A daemon of an environment that does not exist; it is waited for, if nothing fails."""
    (home / "envs").mkdir()
    (home / "lab.yaml").write_text(
        f"prefix: {home}\nservers: {{here: {{}}, server2: {{}}}}\n"
        "environments:\n  myenv: {source: here, push_to: [server2], watch: true}\n"
    )
    argv = [sys.executable, "-m", "envsync", "--config", "lab.yaml", "daemon", "--as", "here"]
    with subprocess.Popen(argv, stderr=stderr, env=environ, cwd=home, text=True) as daemon:
        try:
            yield daemon
        except BaseException:
            daemon.kill()
            raise


def test_a_log_that_cannot_be_written_ends_no_daemon(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """As with `2> log` on a disk that is full, perhaps only for a while."""
    with Path("/dev/full").open("w") as full, begun(tmp_path, environ, full) as daemon:
        paths = DaemonPaths.of(environ, socket.gethostname())
        while daemon.poll() is None and ask(paths.announced_socket(), {"verb": "status"}) is None:
            time.sleep(0.02)
        daemon.terminate()
    assert daemon.returncode == 0


def test_a_log_on_a_terminal_names_the_inventory_that_was_given(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with begun(tmp_path, environ, subprocess.PIPE) as daemon:
        assert daemon.stderr is not None
        hint = next(line for line in daemon.stderr if "there is no environment" in line)
        daemon.terminate()
    assert hint.endswith(" -> `envsync --config lab.yaml list here` shows its environments\n")
