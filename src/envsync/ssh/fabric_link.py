"""A link by fabric over paramiko: the default implementation."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING

from paramiko.ssh_exception import ChannelException, SSHException

from envsync.ssh import connection_errors, fabric_failures, sftp_upload, system_ssh
from envsync.ssh.choice import DEFAULT_REASON, FABRIC
from envsync.ssh.fabric_session import FabricSession, close_quietly
from envsync.ssh.handshakes import SHARED_LIMITER, HandshakeLimiter
from envsync.ssh.hop_opener import WINDOW_BYTES, HopOpener
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Link, LinkChoice, Reached, Timeouts

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel, Transport

    Start = Callable[[Channel], object]
    Refused = Callable[[SSHException | OSError], Exception]

# Without a handler, Python would print paramiko's log straight to the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def open_route(
    route: ResolvedRoute, timeouts: Timeouts, limiter: HandshakeLimiter = SHARED_LIMITER
) -> FabricLink:
    """Return an authenticated link; raises as `session.Link` says."""
    opened: list[Connection] = []
    behind = None
    try:
        for hop in route.hops:
            gateway = opened[-1] if opened else None
            opener = HopOpener(hop, route.config, timeouts, gateway, behind)
            opened.append(opener.open(limiter))
            behind = hop.settings
    except BaseException:
        _close_all(opened)
        raise
    return FabricLink(route, timeouts, opened, partial(opener.open, limiter))


class FabricLink:
    """`session.Link` over one fabric connection for each hop."""

    chosen = LinkChoice(FABRIC, DEFAULT_REASON)

    def __init__(
        self,
        route: ResolvedRoute,
        timeouts: Timeouts,
        connections: Sequence[Connection],
        connect_again: Callable[[], Connection],
    ) -> None:
        """Take one connection per hop; `connect_again` opens a further one to the last."""
        self._route = route
        self._timeouts = timeouts
        *self._to_jump_hosts, last = connections
        self._to_server = [last]
        self._connect_again = connect_again
        self._lock = threading.Lock()
        self._closed = False
        self._place = route.last.place

    @property
    def server(self) -> str:
        return self._route.server

    @property
    def reached(self) -> Reached:
        return self._place.settings.reached

    def run(self, command: str) -> FabricSession:
        channel = self._channel(
            lambda channel: channel.exec_command(command),
            partial(connection_errors.no_command, self._place),
        )
        return FabricSession(channel, self.server, self._timeouts.silence_seconds, self.close)

    def upload(
        self, source: IO[bytes], destination: bytes, progress: Callable[[int], None]
    ) -> None:
        channel = self._channel(
            lambda channel: channel.invoke_subsystem("sftp"),
            lambda _: connection_errors.no_sftp(self.server, "subsystem request failed"),
        )
        channel.settimeout(self._timeouts.silence_seconds)
        try:
            sftp_upload.send_file(channel, self.server, source, destination, progress)
        finally:
            close_quietly(channel)

    def ssh_argv(self) -> Sequence[str]:
        return system_ssh.ssh_argv(self._route, self._timeouts)

    def with_agent_forwarding(self) -> Link | None:
        from envsync.ssh.openssh_link import open_forwarding

        return open_forwarding(self._route, self._timeouts)

    def close(self) -> None:
        self._closed = True
        _close_all([*self._to_jump_hosts, *self._to_server])

    def _channel(self, start: Start, refused: Refused) -> Channel:
        """Return a channel on which `start` was granted; raise `refused` of it if it was not.

        A new connection is opened if the existing ones accept no more sessions: some servers allow
        no more than `MaxSessions 1`.
        """
        for connection in tuple(self._to_server):
            channel = self._channel_on(connection.transport, start, refused)
            if channel is not None:
                return channel
        with self._lock:
            another = self._connect_again()
            self._to_server.append(another)
        if self._closed:
            self.close()
        channel = self._channel_on(another.transport, start, refused)
        if channel is None:
            raise connection_errors.no_session(self._place)
        return channel

    def _channel_on(self, transport: Transport, start: Start, refused: Refused) -> Channel | None:
        """Return a started channel, within its time limit; None if the session was refused."""
        if not transport.is_active():
            raise connection_errors.lost(self.server, transport.get_exception())
        seconds = self._timeouts.channel_seconds
        try:
            channel = transport.open_session(window_size=WINDOW_BYTES, timeout=seconds)
            # paramiko waits for the answer forever; closing the channel ends that wait.
            is_late = threading.Event()
            alarm = threading.Timer(seconds, _close_late, [channel, is_late])
            alarm.daemon = True
            alarm.start()
            try:
                start(channel)
            finally:
                alarm.cancel()
        except ChannelException:
            return None
        except (SSHException, OSError, EOFError) as error:
            # An end of file on an established link is its end, even before paramiko knows.
            if isinstance(error, EOFError) or not transport.is_active():
                raise connection_errors.lost(
                    self.server, transport.get_exception() or error
                ) from error
            # paramiko closes the channel itself when the server refuses.
            if "Channel closed" in str(error) and not is_late.is_set():
                raise refused(error) from error
            if "Channel closed" in str(error):
                raise connection_errors.no_command(self._place, error) from error
            raise fabric_failures.connecting(error, self._place) from error
        return channel


def _close_late(channel: Channel, is_late: threading.Event) -> None:
    is_late.set()
    close_quietly(channel)


def _close_all(connections: Sequence[Connection]) -> None:
    for connection in reversed(connections):
        with contextlib.suppress(SSHException, OSError, EOFError):
            connection.client.close()
