"""What `envsync status` shows of a running daemon: once, and until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import signal

import pytest

from tests.integration.daemon.running import Daemon, inventory
from tests.integration.push.command import ENVSYNC
from tests.integration.push.stamped import Stamped
from tests.lab.lab import Lab
from tests.support.processes import wait_until


@pytest.mark.timeout(60)
def test_status_once_and_until_ctrl_c(fresh_lab: Lab) -> None:
    Stamped.in_lab(fresh_lab, file_bytes=4_000)
    controller = fresh_lab.controller
    with Daemon(controller, inventory(controller.prefix, push_to="[server2]")) as daemon:
        revision = daemon.wait_state("server2", "in-step")["revision"][:12]
        shown = controller.run([ENVSYNC, "status"], env=daemon.command.environment)
        [row] = [line for line in shown.stdout.splitlines() if "server2" in line]
        assert row.split()[:2] == ["myenv", "server2"]
        assert "in-step" in row
        assert revision in row
        _until_ctrl_c(daemon, revision)


def _until_ctrl_c(daemon: Daemon, revision: str) -> None:
    """It follows what happens, and ends well."""
    mine, its = pty.openpty()
    os.set_blocking(mine, False)
    environ = {**daemon.command.environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    seen = b""

    def shows(text: str) -> bool:
        nonlocal seen
        with contextlib.suppress(OSError):  # nothing new
            seen += os.read(mine, 65536)
        return text.encode() in seen

    with daemon.host.popen(
        [ENVSYNC, "status", "--watch"], env=environ, stdout=its, stderr=its
    ) as process:
        os.close(its)
        try:
            wait_until(lambda: shows(revision), "the row", timeout_seconds=20)
            assert not shows("paused")
            daemon.command.ok("daemon", "pause")
            wait_until(lambda: shows("paused"), "the pause", timeout_seconds=20)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
    os.close(mine)
