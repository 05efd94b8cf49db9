"""A link by fabric over paramiko: the one that envsync uses unless told otherwise.

fabric as it comes accepts any host key, on jump hosts too, loads no known_hosts and sets
no time limit. Everything it is given here, on every hop, is there for one of these.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fabric import Config, Connection
from paramiko import Channel, SFTPClient, SSHConfig, Transport
from paramiko.sftp import SFTPError
from paramiko.ssh_exception import ChannelException, SSHException

from envsync.errors import EnvsyncError
from envsync.ssh import failures, refusals, sftp_upload, system_ssh
from envsync.ssh.authentication import PublicKeys
from envsync.ssh.bounded_socket import BoundedSocket
from envsync.ssh.fabric_session import FabricSession, close_quietly
from envsync.ssh.handshakes import SHARED_LIMITER, Dropped, HandshakeLimiter
from envsync.ssh.host_keys import RefuseUnlessKnown, known_hosts
from envsync.ssh.proxy_command import ProxyCommandSocket
from envsync.ssh.refusals import Place
from envsync.ssh.route import find_route
from envsync.ssh.session import Address, Timeouts
from envsync.ssh.ssh_config import HostSettings, UserConfig

# Fast first; nothing that OpenSSH no longer offers.
_CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
    "aes128-ctr", "aes192-ctr", "aes256-ctr",
)  # fmt: skip
# paramiko asks for new keys every 512 MB, which stops the stream each time. OpenSSH lets
# ciphers with 128-bit blocks, which all of the above are, go on for 2**32 blocks.
_REKEY_BYTES = 2**36
_WINDOW_BYTES = 16 << 20

# Without a handler, Python prints what paramiko logs straight to the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def open_link(
    address: Address,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    *,
    environ: Mapping[str, str] | None = None,
    limiter: HandshakeLimiter = SHARED_LIMITER,
) -> FabricLink:
    """An authenticated link; raises as `session.Link` says. `environ` is where HOME,
    SSH_AUTH_SOCK and PATH are looked up, the process's own by default."""
    config = UserConfig(os.environ if environ is None else environ)
    try:
        route = find_route(address, config)
    except EnvsyncError as error:
        error.server = address.server
        raise
    opened: list[Connection] = []
    try:
        for number, settings in enumerate(route):
            place = Place(
                address.server,
                settings,
                is_jump=number < len(route) - 1,
                is_direct=number == 0 and settings.proxy_command is None,
            )
            opener = _HopOpener(place, config, timeouts, opened[-1] if opened else None)
            opened.append(opener.open(limiter, route[number - 1] if number else None))
    except BaseException:
        _close_all(opened)
        raise
    return FabricLink(address, route, config, timeouts, opened)


class _HopOpener:
    """Opens one hop; every attempt has its own connection, since a failed one is spent."""

    def __init__(
        self, place: Place, config: UserConfig, timeouts: Timeouts, gateway: Connection | None
    ) -> None:
        self._place = place
        self._settings = place.settings
        self._config = config
        self._timeouts = timeouts
        self._gateway = gateway
        try:
            self._known = known_hosts(place.settings, config)
        except EnvsyncError as error:
            raise failures.connecting(error, place) from error.__cause__

    def open(self, limiter: HandshakeLimiter, behind: HostSettings | None) -> Connection:
        settings = self._settings
        try:
            return limiter.call(settings.hostname, settings.port, self._attempt)
        except (EnvsyncError, KeyboardInterrupt):
            raise
        except Exception as error:
            cause = (isinstance(error, Dropped) and error.__cause__) or error
            place = self._place
            if isinstance(cause, ChannelException) and behind is not None:
                # What the jump host says about its way on is about the jump host.
                place = Place(place.server, behind, is_jump=True)
            raise failures.connecting(cause, place) from error

    def _attempt(self) -> Connection:
        policy = RefuseUnlessKnown(self._place, self._known, self._config)
        if self._gateway is not None and not self._gateway.is_connected:
            raise refusals.lost(self._place.server, "the link to the jump host ended")
        sock = None if self._gateway is not None else self._connect()
        connection = Connection(
            self._settings.hostname,
            user=self._settings.user,
            port=self._settings.port,
            gateway=self._gateway if self._gateway is not None else False,
            forward_agent=False,
            # An empty configuration of its own: fabric's files and its reading of
            # ~/.ssh/config would come on top of what was found here.
            config=Config(ssh_config=SSHConfig(), lazy=True),
            connect_kwargs=self._connect_kwargs(sock),
        )
        connection.client.set_missing_host_key_policy(policy)
        try:
            connection.open()
            policy.insist_on_verdict()
        except BaseException as error:
            # fabric closes only what it believes to be connected.
            connection.client.close()
            if sock is not None:
                sock.close()
            if failures.is_dropped(error):
                raise Dropped(str(error)) from error
            raise
        connection.transport.set_keepalive(max(1, round(self._timeouts.keepalive_seconds)))
        return connection

    def _connect(self) -> socket.socket | ProxyCommandSocket:
        """A socket, tried on every address of the name (paramiko stops at the first that
        does not answer)."""
        settings = self._settings
        if settings.proxy_command is not None:
            return ProxyCommandSocket(settings.proxy_command, self._config.environ)
        target = (settings.hostname, settings.port)
        sock = socket.create_connection(target, self._timeouts.connect_seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # The kernel notices a peer that vanished, whatever it was we sent last.
            milliseconds = round(self._timeouts.silence_seconds * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        return sock

    def _connect_kwargs(self, sock: socket.socket | ProxyCommandSocket | None) -> dict[str, Any]:
        timeouts = self._timeouts
        kwargs: dict[str, Any] = {
            # Bounds the whole key exchange: paramiko's own limits start anew with each line.
            "timeout": 2 * timeouts.banner_seconds,
            "banner_timeout": timeouts.banner_seconds,
            "auth_timeout": timeouts.authentication_seconds,
            "channel_timeout": timeouts.channel_seconds,
            "auth_strategy": PublicKeys(self._place, self._config, timeouts.authentication_seconds),
            "transport_factory": self._make_transport,
        }
        if sock is not None:
            kwargs["sock"] = sock
        return kwargs

    def _make_transport(self, sock: Any, **kwargs: Any) -> Transport:
        bounded = BoundedSocket(sock, self._timeouts.silence_seconds)
        transport = Transport(
            bounded,  # type: ignore[arg-type]
            default_window_size=_WINDOW_BYTES,
            **kwargs,
        )
        transport.handshake_timeout = self._timeouts.banner_seconds
        transport.packetizer.REKEY_BYTES = _REKEY_BYTES
        security = transport.get_security_options()
        security.ciphers = _CIPHERS
        security.key_types = self._known.preferred(security.key_types)
        return transport


class FabricLink:
    """`session.Link` over one fabric connection for each hop."""

    def __init__(
        self,
        address: Address,
        route: Sequence[HostSettings],
        config: UserConfig,
        timeouts: Timeouts,
        connections: Sequence[Connection],
    ) -> None:
        self._address = address
        self._route = tuple(route)
        self._config = config
        self._timeouts = timeouts
        self._connections = tuple(connections)
        self._place = Place(address.server, route[-1])

    @property
    def server(self) -> str:
        return self._address.server

    @property
    def address_text(self) -> str:
        return self._route[-1].text

    def run(self, command: str) -> FabricSession:
        channel = self._channel(lambda channel: channel.exec_command(command))
        return FabricSession(channel, self.server, self._timeouts.silence_seconds, self.close)

    def upload(
        self,
        source: Path,
        destination: bytes,
        *,
        offset: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        channel = self._channel(lambda channel: channel.invoke_subsystem("sftp"))
        channel.settimeout(self._timeouts.silence_seconds)
        try:
            with SFTPClient(channel) as sftp:
                sftp_upload.send_file(sftp, self.server, source, destination, offset, progress)
        except (SSHException, SFTPError, EOFError, TimeoutError) as error:
            raise refusals.lost(self.server, error) from error
        finally:
            close_quietly(channel)

    def ssh_argv(self) -> Sequence[str]:
        return system_ssh.ssh_argv(self._address, self._route, self._config, self._timeouts)

    def ssh_host(self) -> str:
        return self._route[-1].alias

    def close(self) -> None:
        _close_all(self._connections)

    def _channel(self, start: Callable[[Channel], object]) -> Channel:
        """A channel on which `start` was granted, all of it within the channel's time limit."""
        transport: Transport = self._connections[-1].transport
        if not transport.is_active():
            raise refusals.lost(self.server, transport.get_exception())
        seconds = self._timeouts.channel_seconds
        try:
            channel = transport.open_session(window_size=_WINDOW_BYTES, timeout=seconds)
            # paramiko waits for the answer for ever; a closed channel ends that wait.
            alarm = threading.Timer(seconds, close_quietly, [channel])
            alarm.daemon = True
            alarm.start()
            try:
                start(channel)
            finally:
                alarm.cancel()
        except (SSHException, OSError, EOFError) as error:
            if not transport.is_active():
                raise refusals.lost(self.server, transport.get_exception() or error) from error
            if "Channel closed" in str(error):
                raise refusals.no_command(self._place, error) from error
            raise failures.connecting(error, self._place) from error
        return channel


def _close_all(connections: Sequence[Connection]) -> None:
    for connection in reversed(connections):
        with contextlib.suppress(SSHException, OSError, EOFError):
            connection.client.close()
