"""Agent forwarding: the user's ssh agent on a server, for the lifetime of a link of its own.

sshd makes one socket per connection, offers it to every later session, and keeps it until the
connection ends, so nothing else goes over this link. The system's `ssh` does the forwarding: it
tells the agent where it is forwarded to, and the agent enforces where its keys may be used
(`ssh-add -h`). paramiko does not tell it, so an agent would take such a use for one on this
machine.
"""

from __future__ import annotations

import socket

from envsync.ssh.route import ResolvedRoute

_ANSWER_SECONDS = 5.0


def may_forward_agent(route: ResolvedRoute) -> bool:
    """Return whether `ssh` can forward an agent to the server: one is configured, and answers."""
    path = route.last.settings.forwarded_agent_socket(route.config.environ)
    return path is not None and route.config.ssh_command is not None and _is_answered(path)


def _is_answered(path: str) -> bool:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_SECONDS)
    with connection:
        try:
            connection.connect(path)
        except OSError:
            return False
    return True
