"""A ProxyCommand as a socket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.ssh.proxy_command import ProxyCommandSocket
from tests.support.processes import is_running, wait_until


@pytest.mark.parametrize("script", ["sleep 60 & echo $! > {}; wait", "sleep 60 & echo $! > {}"])
def test_closing_ends_the_command_and_what_it_started(tmp_path: Path, script: str) -> None:
    pid_file = tmp_path / "pid"
    command = ProxyCommandSocket(f"sh -c '{script.format(pid_file)}'", dict(os.environ))
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "it has started")
    command.close()
    wait_until(lambda: not is_running(int(pid_file.read_text())), "its child has ended")
