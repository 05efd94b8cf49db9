"""What is taken from paramiko beside its documented interface, and why.

- `AgentSSH._send_message`, `_close`, `_conn` and `_keys`: its own `Agent` reads the process's
  environment, waits forever, and gives up at a comment that is not UTF-8.
- `Transport.auth_handler.banner`: `Transport.get_banner` has none once the connection is closed.

tests/unit/ssh/test_paramiko_internals.py fails if a release changes one of them.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import (
    SSH2_AGENT_IDENTITIES_ANSWER,
    AgentKey,
    AgentSSH,
    cSSH2_AGENTC_REQUEST_IDENTITIES,
)
from paramiko.ssh_exception import SSHException

if TYPE_CHECKING:
    from paramiko import Message, Transport

_LISTING_SHARE = 0.3
"""How much of the time an agent may take to list its keys: the files are tried in the rest."""


def last_banner(transport: Transport) -> list[str]:
    """Return the lines that the server sent for a person with its answer to the last key."""
    banner: object = getattr(transport.auth_handler, "banner", None)
    text = banner.decode("utf-8", "backslashreplace") if isinstance(banner, bytes) else ""
    return [line.strip() for line in text.splitlines() if line.strip()]


class SshAgentKey(AgentKey):
    """An agent's key, with which the agent may refuse to sign.

    paramiko signs in its reader thread, where an exception ends the connection. An empty signature
    is refused by the server instead, and the next key is tried.
    """

    refusal = ""

    def sign_ssh_data(self, data: Any, algorithm: str | None = None) -> Any:
        try:
            return super().sign_ssh_data(data, algorithm)
        except (SSHException, OSError) as error:
            self.refusal = str(error)
            return b""


class SshAgent(AgentSSH):
    """A connection to an agent's socket, with a time limit: a forwarded agent may be gone."""

    def __init__(self, path: str | None, timeout_seconds: float) -> None:
        super().__init__()
        self.has_answered = False
        if path is None:
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_seconds * _LISTING_SHARE)
        try:
            connection.connect(path)
            self._list_keys(connection)
            connection.settimeout(timeout_seconds)
        except (OSError, SSHException):
            # The variable may be stale, as after a re-login; the identity files may still work.
            connection.close()

    def _list_keys(self, connection: socket.socket) -> None:
        """Read the agent's keys; paramiko's method gives up at a comment that is not UTF-8."""
        self._conn = connection
        kind, answer = self._send_message(cSSH2_AGENTC_REQUEST_IDENTITIES)  # type: ignore[attr-defined]
        if kind != SSH2_AGENT_IDENTITIES_ANSWER:
            raise SSHException("it does not list its keys")
        self.has_answered = True
        self._keys = tuple(_listed_keys(self, answer))

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


def _listed_keys(agent: SshAgent, answer: Message) -> Iterator[SshAgentKey]:
    for _ in range(answer.get_int()):
        blob, comment = answer.get_binary(), answer.get_binary()
        # A key that cannot be parsed could not be used either.
        with contextlib.suppress(ValueError, SSHException, UnsupportedAlgorithm):
            yield SshAgentKey(agent, blob, comment.decode("utf-8", "backslashreplace"))
