"""A TCP connection to the first host of a route."""

from __future__ import annotations

import socket

from envsync.ssh.host_settings import HostSettings

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
# Missing where the interpreter was built against an old C library.
_TCP_USER_TIMEOUT: int = getattr(socket, "TCP_USER_TIMEOUT", 18)


def connect(
    settings: HostSettings, connect_seconds: float, silence_seconds: float
) -> socket.socket:
    """Connect to the first address of the host, in the configured family, that answers.

    paramiko itself stops at the first address that does not answer. Raises the OSError of the last
    address, or of the lookup.
    """
    sock = _connected(settings, connect_seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The kernel then notices a peer that vanished, whatever was sent last.
    milliseconds = round(silence_seconds * 1000)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)
    return sock


def _connected(settings: HostSettings, seconds: float) -> socket.socket:
    """Connect as `socket.create_connection` does, which cannot be restricted to a family."""
    wanted = _FAMILIES.get(settings.address_family, socket.AF_UNSPEC)
    failure = OSError("it has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        settings.hostname, settings.port, wanted, socket.SOCK_STREAM
    ):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # of a family that this machine lacks
            failure = error
            continue
        try:
            sock.settimeout(seconds)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure
