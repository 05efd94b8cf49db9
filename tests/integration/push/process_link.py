"""A link to this machine without ssh: its sessions are processes of our own."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field
from typing import cast

from envsync.ssh.session import Link
from tests.integration.push.lying import SocketSession


@dataclass
class _ProcessLink:
    server: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, command: str) -> SocketSession:
        near, far = socket.socketpair()
        with far:
            self.processes.append(
                subprocess.Popen(command, shell=True, stdin=far.fileno(), stdout=far.fileno())
            )
        return SocketSession(near)

    def close(self) -> None:
        """Sessions come first: whose stdin has ended, ends."""
        for process in self.processes:
            process.wait(30)


def process_link(server: str) -> Link:
    """As far as an agent needs a link: what it runs, runs here."""
    return cast("Link", _ProcessLink(server))
