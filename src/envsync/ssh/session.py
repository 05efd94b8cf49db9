"""The protocol between envsync and SSH: a link to a server, and sessions on it.

A *link* is an authenticated connection to one server. A *session* is one command on it: stdin,
stdout and an exit status. Everything above this layer knows only these protocols; the paragraphs
marked "Contract" are what every implementation is tested for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol


@dataclass(frozen=True, slots=True)
class Address:
    """A server's host and how to log in; None means "what the ssh configuration says".

    `host` may be an alias in `~/.ssh/config`. `jump` is a host of the same kind, or several
    separated by commas, first hop first.
    """

    server: str
    host: str
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    identity_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits of every wait on a link, in seconds."""

    connect_seconds: float = 15.0
    banner_seconds: float = 15.0
    authentication_seconds: float = 30.0
    channel_seconds: float = 15.0
    keepalive_seconds: float = 15.0
    silence_seconds: float = 60.0

    def at_least(self, seconds: float) -> Timeouts:
        """Return these limits with everything that `ConnectTimeout` covers at `seconds` or more."""
        return replace(
            self,
            connect_seconds=max(self.connect_seconds, seconds),
            banner_seconds=max(self.banner_seconds, seconds),
            channel_seconds=max(self.channel_seconds, seconds),
        )


@dataclass(frozen=True, slots=True)
class Reached:
    """The host that a link leads to, by the ssh configuration; `alias` is the name asked for.

    `given_identity` is the key that the user insisted on.
    """

    alias: str
    hostname: str
    user: str
    port: int
    jump: str | None = None
    given_identity: Path | None = None


@dataclass(frozen=True, slots=True)
class LinkChoice:
    """The implementation of a link (`fabric`, `ssh`), and one clause that says why."""

    name: str
    reason: str


class Session(Protocol):
    """One running command.

    Contract: `write` blocks until all of `data` is accepted, at most `Timeouts.silence_seconds`
    without progress. `read` returns between 1 and `size` bytes, or b"" once the command has closed
    its stdout. Both raise `ConnectionLost` (with the server's name) when the link is gone or silent
    for too long. `write` and `read` may be called from two threads at once. `close` may be called
    at any time, from any thread, more than once; it unblocks a waiting `read` or `write` and never
    raises. After `close`, both raise `ConnectionLost`, and so does `write` after `close_stdin` or
    once the command has ended; the caller then reads the exit status and stderr.
    """

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def read(self, size: int) -> bytes: ...

    def close_stdin(self) -> None:
        """Let the command see the end of its input. May be called more than once."""
        ...

    def exit_status(self, timeout_seconds: float) -> int | None:
        """Return the exit status; None if the command did not end in time or left none."""
        ...

    def stderr_tail(self) -> str:
        """Return the last 4 KiB or less of the command's stderr, decoded leniently."""
        ...

    def close(self) -> None: ...


class Link(Protocol):
    """An authenticated connection to one server.

    Contract: opening a link verified the host key of every hop against known_hosts before any
    credential was sent. `run` starts `command` in the server's login shell, so it must be `exec
    /bin/sh -c '...'` of fixed ASCII. Failures are `ConnectionFailed`, `HostKeyRefused`,
    `AuthenticationRefused` or `ConnectionLost`, with server and hint.
    """

    @property
    def server(self) -> str: ...

    @property
    def reached(self) -> Reached: ...

    @property
    def chosen(self) -> LinkChoice: ...

    def run(self, command: str) -> Session: ...

    def upload(
        self, source: IO[bytes], destination: bytes, progress: Callable[[int], None]
    ) -> None:
        """Send the rest of an open file to an absolute path there, created with mode 0600.

        What precedes the position of `source` is assumed to be there already. `progress` is called
        with the number of bytes sent since the last call. After a failure a prefix of the file is
        there, and a later call may continue from its length.
        """
        ...

    def ssh_argv(self) -> Sequence[str]:
        """Return the system's `ssh` with options that give it the same answers as this link.

        They are BatchMode, strict host key checking, and the same user, port, identity, jump hosts
        and known_hosts files; the host, which is `reached.alias`, is left out. Raises
        `ConnectionFailed` if there is no `ssh` command.
        """
        ...

    def with_agent_forwarding(self) -> Link | None:
        """Open a further link whose sessions can use the user's own agent until it is closed.

        Returns None if the user's ssh configuration does not forward the agent to that server, if
        no agent listens, or if there is no `ssh` command. Raises as the opening of a link does.
        """
        ...

    def close(self) -> None:
        """End the link and its sessions. May be called more than once; never raises."""
        ...
