"""ssh processes of a test's user, and of ours."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self


class UsersMaster:
    """A live ControlMaster, as a user's terminal leaves one; the configuration names it."""

    def __init__(self, sshd: LoopbackSshd, control_path: Path) -> None:
        self.control_path = control_path
        config = sshd.home / ".ssh" / "config"
        config.write_text(config.read_text() + f"  ControlPath {control_path}\n")
        ssh = sshd.home / ".ssh"
        options = ["-o", f"UserKnownHostsFile={ssh}/known_hosts", "-i", str(ssh / "id_ed25519")]
        self._argv = ["ssh", "-F", str(config), *options]
        self._name = sshd.name
        self._environ = sshd.environ
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self._argv, "-M", "-N", self._name], env=self._environ, stdin=subprocess.DEVNULL
        )
        wait_until(lambda: self.is_alive, "the master is there")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_alive(self) -> bool:
        """As `ssh` itself tells."""
        argv = [*self._argv, "-O", "check", self._name]
        done = subprocess.run(argv, env=self._environ, capture_output=True, check=False)
        return done.returncode == 0

    def kill(self) -> None:
        process = self._process
        if process is None:
            return

        def is_gone() -> bool:
            # ssh heeds a signal before it waits: one that comes in between, it sleeps over.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
            return process.returncode is not None

        wait_until(is_gone, "the master is gone")


def descendants(pid: int, pattern: str) -> list[int]:
    """Processes below `pid` whose command line has `pattern` in it."""
    found = []
    children = ""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            children += " " + (task / "children").read_text()
    for child in map(int, children.split()):
        with contextlib.suppress(OSError):
            if pattern in os.fsdecode(Path(f"/proc/{child}/cmdline").read_bytes()):
                found.append(child)
            found += descendants(child, pattern)
    return found
