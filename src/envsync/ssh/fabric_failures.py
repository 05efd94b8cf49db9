"""The one place that says what an exception of the libraries below means.

`connecting` covers everything until a link is established; any failure after that means that the
connection was lost. A unit test has the exception classes of paramiko that were considered here.
"""

from __future__ import annotations

import socket

from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
from paramiko.ssh_exception import (
    ChannelException,
    IncompatiblePeer,
    ProxyCommandFailure,
    SSHException,
)

from envsync.errors import ConnectionFailed
from envsync.ssh.algorithms import NoneAllowed
from envsync.ssh.connection_errors import (
    another_protocol,
    forwarding_forbidden,
    hung_up,
    may_be_dropped,
    no_allowed_algorithm,
    no_banner,
    no_common_algorithm,
    no_session,
    not_forwarded,
    not_found,
    not_found_now,
    protocol_broken,
    proxy_failed,
    reason_of,
    refused,
    silent,
    too_slow,
    unreachable,
)
from envsync.ssh.hop_place import HopPlace

_NO_CHANNEL = "Timeout opening channel"


def connecting(error: Exception, place: HopPlace) -> ConnectionFailed:
    """Return the meaning of an `error` raised while a link to `place` was being opened."""
    match error:
        case EOFError() | ConnectionResetError() | BrokenPipeError():
            return hung_up(place, str(error))
        case OSError():
            return _by_system(error, place)
        case ProxyCommandFailure():
            return proxy_failed(place, error.command, error.error)
        case NoneAllowed():
            return no_allowed_algorithm(place, error.key, reason_of(error))
        case IncompatiblePeer():
            return no_common_algorithm(place, reason_of(error))
        case ChannelException():
            return _no_channel(error, place)
        case SSHException():
            return _by_its_text(error, place)
        # Python encodes a name before it is looked up.
        case UnicodeError() if not isinstance(error, UnicodeDecodeError):
            return not_found(place, reason_of(error))
    # Anything else out of paramiko's reader was provoked by data from the server.
    return protocol_broken(place, reason_of(error))


def _by_system(error: OSError, place: HopPlace) -> ConnectionFailed:
    match error:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return not_found_now(place, reason_of(error))
        case socket.gaierror():
            return not_found(place, reason_of(error))
        case ConnectionRefusedError():
            return refused(place)
        case TimeoutError():
            return silent(place)
    return unreachable(place, reason_of(error))


def _no_channel(error: ChannelException, place: HopPlace) -> ConnectionFailed:
    if not place.onward:
        return no_session(place, error.text)
    if error.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
        return forwarding_forbidden(place, error.text)
    return not_forwarded(place, "cannot reach", error.text)


def _by_its_text(error: SSHException, place: HopPlace) -> ConnectionFailed:
    text = str(error)
    if _is_about_banner(error):
        if not isinstance(error.__context__, TimeoutError):
            return hung_up(place, text)
        if not place.heard:
            return no_banner(place)
    if place.heard:
        return another_protocol(place)
    if _NO_CHANNEL in text and place.onward:
        return not_forwarded(place, "got no answer from")
    if _NO_CHANNEL in text:
        return too_slow(place, "opened no session in time")
    if "No existing session" in text:
        return too_slow(place, "did not finish the handshake in time")
    return protocol_broken(place, reason_of(error))


def _is_about_banner(error: Exception) -> bool:
    return isinstance(error, SSHException) and "protocol banner" in str(error)


def is_dropped(error: Exception, heard: str) -> bool:
    """Return whether the server hung up before it could have meant this client in particular.

    `heard` is what it sent before any SSH.
    """
    ended = error.__context__ if _is_about_banner(error) else error
    return may_be_dropped(heard) and isinstance(
        ended, (EOFError, ConnectionResetError, BrokenPipeError)
    )
