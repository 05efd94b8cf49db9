"""`envsync daemon` itself, as a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from envsync.daemon.control import ask
from envsync.daemon.paths import DaemonPaths


def test_a_log_that_cannot_be_written_ends_no_daemon(tmp_path: Path) -> None:
    """As with `2> log` on a disk that is full, perhaps only for a while."""
    (tmp_path / "envs").mkdir()
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(
        f"prefix: {tmp_path}\nservers: {{here: {{}}, server2: {{}}}}\n"
        "environments:\n  myenv: {source: here, push_to: [server2], watch: true}\n"
    )
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    argv = [sys.executable, "-m", "envsync", "--config", str(inventory), "daemon", "--as", "here"]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(argv, stdout=full, stderr=full, env=environ) as daemon,
    ):
        paths = DaemonPaths.of(environ, socket.gethostname())
        while daemon.poll() is None and ask(paths.announced_socket(), {"verb": "status"}) is None:
            time.sleep(0.02)
        daemon.terminate()
    assert daemon.returncode == 0
