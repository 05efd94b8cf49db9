"""Opens one hop of a route: a connection by fabric over paramiko.

By default fabric accepts any host key, on jump hosts too, loads no known_hosts and sets no time
limit. What it is given here, on every hop, mends that.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

from fabric import Config, Connection
from paramiko import SSHConfig, Transport
from paramiko.ssh_exception import ProxyCommandFailure

from envsync.errors import EnvsyncError
from envsync.ssh import connection_errors, fabric_failures, tcp_connection
from envsync.ssh.algorithms import allowed
from envsync.ssh.authentication import PublicKeys
from envsync.ssh.bounded_socket import BoundedSocket
from envsync.ssh.handshakes import Dropped, HandshakeLimiter
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_keys import RefuseUnlessKnown
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.proxy_command import ProxyCommandSocket
from envsync.ssh.route import Hop
from envsync.ssh.session import Timeouts
from envsync.ssh.ssh_config import UserConfig

# Fastest first; nothing that OpenSSH no longer offers.
_CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
    "aes128-ctr", "aes192-ctr", "aes256-ctr",
)  # fmt: skip
# paramiko rekeys every 512 MB, which stops the stream each time. OpenSSH allows 2**32 blocks for
# ciphers with 128-bit blocks, which all of the above have.
_REKEY_BYTES = 2**36
WINDOW_BYTES = 16 << 20


class HopOpener:
    """Opens one hop, with a new connection for each attempt: a failed one cannot be used again."""

    def __init__(
        self,
        hop: Hop,
        config: UserConfig,
        timeouts: Timeouts,
        gateway: Connection | None,
        behind: HostSettings | None,
    ) -> None:
        """Take `gateway`, the connection to the jump host `behind`, unless the hop is the first."""
        self._place = hop.place
        self._settings = hop.settings
        self._known = hop.known
        self._config = config
        self._timeouts = timeouts
        self._gateway = gateway
        self._behind = behind
        # The last attempt's socket; None if it did not get that far.
        self._socket: BoundedSocket | None = None

    def open(self, limiter: HandshakeLimiter) -> Connection:
        try:
            return limiter.call(self._settings.hostname, self._settings.port, self._attempt)
        except EnvsyncError:
            raise
        except Exception as error:
            raise fabric_failures.connecting(error, self._failed_place()) from error

    def _failed_place(self) -> HopPlace:
        if self._behind is not None and self._socket is None:
            # The jump host opened no onward channel, so the error is about the jump host.
            onward = self._settings.endpoint
            return HopPlace(self._place.server, self._behind, is_jump=True, onward=onward)
        return replace(self._place, heard=self._heard())

    def _heard(self) -> str:
        return "" if self._socket is None else self._socket.heard

    def _attempt(self) -> Connection:
        self._socket = None
        if self._gateway is not None and not self._gateway.is_connected:
            raise connection_errors.lost(
                self._place.server, "the connection to the jump host ended"
            )
        sock = None if self._gateway is not None else self._connect()
        connection = Connection(
            self._settings.hostname,
            user=self._settings.user,
            port=self._settings.port,
            gateway=self._gateway if self._gateway is not None else False,
            forward_agent=False,
            # The configuration is empty because fabric would add its own files and its own reading
            # of ~/.ssh/config to what was found here.
            config=Config(ssh_config=SSHConfig(), lazy=True),
            connect_kwargs=self._connect_kwargs(sock),
        )
        policy = RefuseUnlessKnown(self._place, self._known, self._config)
        connection.client.set_missing_host_key_policy(policy)
        try:
            connection.open()
            policy.insist_on_verdict()
        except BaseException as error:
            # fabric closes only what it believes to be connected.
            connection.client.close()
            if sock is not None:
                sock.close()
            heard = self._heard()
            if isinstance(error, Exception) and fabric_failures.is_dropped(error, heard):
                raise _dropped(error, None if heard else sock) from error
            raise
        connection.transport.set_keepalive(max(1, round(self._timeouts.keepalive_seconds)))
        return connection

    def _connect(self) -> socket.socket | ProxyCommandSocket:
        settings = self._settings
        if settings.proxy_command is not None:
            return ProxyCommandSocket(settings.proxy_command, self._config.environ)
        return tcp_connection.connect(
            settings, self._timeouts.connect_seconds, self._timeouts.silence_seconds
        )

    def _connect_kwargs(self, sock: socket.socket | ProxyCommandSocket | None) -> dict[str, Any]:
        timeouts = self._timeouts
        kwargs: dict[str, Any] = {
            # Bounds the whole key exchange: paramiko's own limits restart with each line.
            "timeout": 2 * timeouts.banner_seconds,
            "banner_timeout": timeouts.banner_seconds,
            "auth_timeout": timeouts.authentication_seconds,
            "channel_timeout": timeouts.channel_seconds,
            "auth_strategy": PublicKeys(
                self._place, self._config.environ, timeouts.authentication_seconds
            ),
            "transport_factory": self._make_transport,
        }
        if sock is not None:
            kwargs["sock"] = sock
        return kwargs

    def _make_transport(self, sock: Any, **kwargs: Any) -> Transport:
        bounded = self._socket = BoundedSocket(sock, self._timeouts.silence_seconds)
        transport = Transport(
            bounded,  # type: ignore[arg-type]
            default_window_size=WINDOW_BYTES,
            **kwargs,
        )
        # At paramiko's own limit it looks as if the server had hung up; `timeout` comes before it.
        transport.handshake_timeout = 4 * self._timeouts.banner_seconds
        transport.packetizer.REKEY_BYTES = _REKEY_BYTES
        security = transport.get_security_options()
        configured = self._settings.algorithms
        security.ciphers = allowed(_CIPHERS, "Ciphers", configured.ciphers)
        security.digests = allowed(security.digests, "MACs", configured.macs)
        security.kex = allowed(security.kex, "KexAlgorithms", configured.key_exchanges)
        key_types = allowed(security.key_types, "HostKeyAlgorithms", configured.host_keys)
        security.key_types = self._known.preferred(key_types)
        return transport


def _dropped(error: Exception, sock: socket.socket | ProxyCommandSocket | None) -> Exception:
    """Return the exception for a connection that was dropped.

    `sock` is closed; it is None if the server was heard: then no ProxyCommand failed.
    """
    if not isinstance(sock, ProxyCommandSocket) or (failure := sock.failure()) is None:
        return Dropped(error)
    proxy_failure = ProxyCommandFailure(sock.command, failure)
    may_retry = connection_errors.proxy_may_be_dropped(sock.last_words)
    return Dropped(proxy_failure) if may_retry else proxy_failure
