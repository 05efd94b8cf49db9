"""The one place that translates exceptions of the libraries below into errors for a person.

`connecting` covers everything until a link is established; any failure after that means that the
connection was lost. A unit test checks `MEANINGS` against every exception class of paramiko.
"""

from __future__ import annotations

import errno
import shlex
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from paramiko import ssh_exception
from paramiko.auth_strategy import AuthFailure
from paramiko.buffered_pipe import PipeTimeout
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
from paramiko.hostkeys import InvalidHostKey
from paramiko.packet import NeedRekeyException
from paramiko.pkey import UnknownKeyType
from paramiko.sftp import SFTPError

from envsync.errors import (
    ConnectionFailed,
    EnvsyncError,
    HostKeyRefused,
    NoSpace,
    TransferFailed,
)
from envsync.ssh.algorithms import NoneAllowed
from envsync.ssh.refusals import (
    Place,
    authentication_refused,
    changed_host_key,
    no_session,
    reason_of,
    tried,
    unreached,
)

Meaning: TypeAlias = Callable[[Any, Place], EnvsyncError]

# What sshd sends before it closes a connection unasked.
PENALTY = "Not allowed at this time"
_CROWDED = "Exceeded MaxStartups"
_NO_CHANNEL = "Timeout opening channel"
_ONWARD_HINT = "check that host's address and port, and what the jump host can reach"
_BUSY_HINT = "it may be overloaded; see whether it answers at all: {}"


def connecting(error: BaseException, place: Place) -> EnvsyncError:
    """Return the meaning of an `error` raised while a link to `place` was being opened."""
    if isinstance(error, EnvsyncError):
        if error.server is None:
            error.server = place.server
        return error
    for cls in type(error).__mro__:
        if cls in MEANINGS:
            return MEANINGS[cls](error, place)
    # Anything else out of paramiko's reader was provoked by data from the server.
    return _protocol(error, place)


def upload_failed(error: BaseException, server: str, path: str) -> EnvsyncError:
    """Return the meaning of an `error` of the server's sftp while `path` was being sent."""
    if isinstance(error, EnvsyncError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left for {path}", server=server)
    details = [reason_of(error)]
    if isinstance(error, OSError) and error.errno is None:
        details.append("sftp gives no reason: the disk may be full")
    return TransferFailed(f"{path} could not be written", details=details, server=server)


def is_dropped(error: BaseException, heard: str = "") -> bool:
    """Return whether the server hung up before it could have meant this client in particular.

    `heard` is what it sent before any SSH.
    """
    if heard and not is_crowded(heard):
        return False
    if isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
        return True
    cause = error.__context__
    return _is_banner_error(error) and isinstance(cause, (EOFError, ConnectionResetError))


def is_crowded(heard: str) -> bool:
    """Return whether a server that sends this has too many connections at the moment."""
    return _CROWDED in heard


def _is_banner_error(error: BaseException) -> bool:
    return isinstance(error, ssh_exception.SSHException) and "protocol banner" in str(error)


def _not_found(error: Exception, place: Place) -> EnvsyncError:
    name = place.settings.hostname
    look_up = shlex.join(["getent", "hosts", name])
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        which = "of the jump host " if place.is_jump else ""
        message = f"the name {which}{name!r} cannot be resolved at present"
        hint = f"check the DNS of this machine if this fails, too: {look_up}"
    else:
        which = " (the jump host)" if place.is_jump else ""
        message = f"there is no host named {name!r}{which}"
        hint = f"check the spelling, or: {look_up}"
        family = place.settings.address_family
        host, colon, port = name.rpartition(":")
        if colon and port.isdigit() and ":" not in host:
            hint = f"give the port as `port: {port}` in the inventory, or in ~/.ssh/config"
        elif family != "any":
            hint = f"the ssh configuration allows only AddressFamily {family}; {hint}"
    return tried(message, hint, [reason_of(error)], place)


def _refused(error: OSError, place: Place) -> EnvsyncError:  # noqa: ARG001
    port = place.settings.port
    hint = f"check that sshd runs there and listens on port {port}: systemctl status ssh"
    return unreached(place, "refuses connections", hint)


def _silent(error: OSError, place: Place) -> EnvsyncError:  # noqa: ARG001
    hint = f"see whether it answers at all: {place.ssh_command}"
    if place.settings.jump is None and place.settings.proxy_command is None:
        hint = f"if only another host reaches it, set `jump:` in the inventory; {hint}"
    return unreached(place, "does not answer", hint)


def _unreachable(error: OSError, place: Place) -> EnvsyncError:
    ping = shlex.join(["ping", place.settings.hostname])
    return unreached(
        place, "cannot be reached", f"check the address and the network: {ping}", reason_of(error)
    )


def _several(error: ssh_exception.NoValidConnectionsError, place: Place) -> EnvsyncError:
    first = next(iter(error.errors.values()), None)
    return _unreachable(error, place) if first is None else connecting(first, place)


def _hung_up(error: BaseException, place: Place) -> EnvsyncError:
    if PENALTY in place.heard:
        return unreached(
            place,
            "blocks this address for a while",
            "wait some minutes; PerSourcePenalties in its sshd_config says for how long",
            f"it says: {place.heard}",
        )
    if place.heard and not is_crowded(place.heard):
        return _another_protocol(place)
    said = f"it says: {place.heard}" if place.heard else str(error)
    return unreached(
        place,
        "closed the connection during the handshake",
        "it may be overloaded (MaxStartups) or have blocked this address: check its sshd's log",
        *filter(None, [said]),
    )


def _another_protocol(place: Place) -> EnvsyncError:
    return unreached(
        place,
        "answers, but is not an SSH server",
        f"check host and port: is {place.settings.port} the port of its sshd?",
        f"it says: {place.heard}",
    )


def _ssh(error: ssh_exception.SSHException, place: Place) -> EnvsyncError:
    if _is_banner_error(error):
        if not isinstance(error.__context__, TimeoutError):
            return _hung_up(error, place)
        if not place.heard:
            return unreached(place, "accepts connections but sends no SSH banner",
                             "check that an SSH server listens on that port")  # fmt: skip
    if place.heard:
        return _another_protocol(place)
    if place.onward and _NO_CHANNEL in str(error):
        return unreached(place, f"got no answer from {place.onward}", _ONWARD_HINT)
    if _NO_CHANNEL in str(error):
        return unreached(place, "opened no session in time", _BUSY_HINT.format(place.ssh_command))
    if "No existing session" in str(error):
        return unreached(place, "did not finish the handshake in time",
                         _BUSY_HINT.format(place.ssh_command))  # fmt: skip
    return _protocol(error, place)


def _protocol(error: BaseException, place: Place) -> EnvsyncError:
    return unreached(
        place,
        "does not speak SSH as expected",
        f"see what it says: {place.ssh_command} -v",
        reason_of(error),
    )


def _incompatible(error: BaseException, place: Place) -> EnvsyncError:
    return unreached(
        place,
        "has no algorithm in common with this client",
        "update its sshd, or let the ssh configuration allow more; "
        f"see what it offers: {place.ssh_command} -v",
        reason_of(error),
    )


def _excluded(error: NoneAllowed, place: Place) -> EnvsyncError:
    return unreached(
        place,
        f"cannot be reached with the {error.key} that the ssh configuration allows",
        f"allow more there; see what it has: {shlex.join(['ssh', '-G', place.settings.alias])}",
        reason_of(error),
    )


def _channel(error: ssh_exception.ChannelException, place: Place) -> EnvsyncError:
    if place.onward and error.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
        return unreached(place, f"does not allow forwarding to {place.onward}",
                         "check AllowTcpForwarding in its sshd_config, and its authorized_keys",
                         error.text)  # fmt: skip
    if place.onward:
        return unreached(place, f"cannot reach {place.onward}", _ONWARD_HINT, error.text)
    return no_session(place, error.text)


def _auth(error: BaseException, place: Place) -> EnvsyncError:
    if "timeout" in str(error).lower():
        return unreached(place, "did not answer the authentication in time")
    allowed = getattr(error, "allowed_types", ())
    return authentication_refused(place, [], [], list(allowed))


def _bad_host_key(error: ssh_exception.BadHostKeyException, place: Place) -> EnvsyncError:
    return changed_host_key(
        place, error.hostname, error.key.fingerprint, [error.expected_key.fingerprint]
    )


def _bad_known_hosts(error: BaseException, place: Place) -> EnvsyncError:
    return HostKeyRefused(
        "a line of known_hosts cannot be read",
        hint="correct or remove that line",
        details=[reason_of(error)],
        server=place.server,
    )


def _proxy(error: ssh_exception.ProxyCommandFailure, place: Place) -> EnvsyncError:
    return unreached(
        place, "is behind a ProxyCommand that failed", f"try it by hand: {error.command}",
        *error.error.splitlines(),
    )  # fmt: skip


def _config(error: BaseException, place: Place) -> EnvsyncError:
    return ConnectionFailed(
        "the ssh configuration cannot be read",
        hint=f"see what is wrong with it: ssh -G {shlex.quote(place.settings.alias)}",
        details=[reason_of(error)],
        server=place.server,
    )


def _sftp(error: BaseException, place: Place) -> EnvsyncError:
    return upload_failed(error, place.server, "the file")


MEANINGS: dict[type[BaseException], Meaning] = {
    socket.gaierror: _not_found,
    # Python checks the name itself before any lookup.
    UnicodeError: _not_found,
    # This one is about data from the server.
    UnicodeDecodeError: _protocol,
    ConnectionRefusedError: _refused,
    TimeoutError: _silent,
    EOFError: _hung_up,
    ConnectionResetError: _hung_up,
    BrokenPipeError: _hung_up,
    OSError: _unreachable,
    ssh_exception.SSHException: _ssh,
    ssh_exception.AuthenticationException: _auth,
    ssh_exception.PasswordRequiredException: _auth,
    ssh_exception.BadAuthenticationType: _auth,
    ssh_exception.PartialAuthentication: _auth,
    ssh_exception.UnableToAuthenticate: _auth,
    ssh_exception.ChannelException: _channel,
    ssh_exception.BadHostKeyException: _bad_host_key,
    ssh_exception.IncompatiblePeer: _incompatible,
    NoneAllowed: _excluded,
    ssh_exception.ProxyCommandFailure: _proxy,
    ssh_exception.NoValidConnectionsError: _several,
    ssh_exception.CouldNotCanonicalize: _config,
    ssh_exception.ConfigParseError: _config,
    ssh_exception.MessageOrderError: _protocol,
    AuthFailure: _auth,
    InvalidHostKey: _bad_known_hosts,
    UnknownKeyType: _incompatible,
    PipeTimeout: _silent,
    NeedRekeyException: _protocol,
    SFTPError: _sftp,
}
