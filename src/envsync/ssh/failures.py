"""The one place that knows what an exception of the libraries below means to a person.

`connecting` serves everything until a link stands, `lost` everything after that. A unit
test holds `MEANINGS` against every exception class that paramiko has.
"""

from __future__ import annotations

import errno
import shlex
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from paramiko import ssh_exception
from paramiko.auth_strategy import AuthFailure
from paramiko.buffered_pipe import PipeTimeout
from paramiko.hostkeys import InvalidHostKey
from paramiko.packet import NeedRekeyException
from paramiko.pkey import UnknownKeyType
from paramiko.sftp import SFTPError

from envsync.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ConnectionLost,
    EnvsyncError,
    HostKeyRefused,
    NoSpace,
    TransferFailed,
)
from envsync.ssh.handshakes import Dropped
from envsync.ssh.ssh_config import HostSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where on the way to a server something failed."""

    server: str
    settings: HostSettings
    is_jump: bool = False
    # False for a host that only its jump host can reach.
    is_direct: bool = True

    @property
    def subject(self) -> str:
        endpoint = self.settings.endpoint
        return f"the jump host {endpoint}" if self.is_jump else endpoint

    @property
    def ssh_command(self) -> str:
        """What a person types to go the same way by hand."""
        port = [] if self.settings.port == 22 else ["-p", str(self.settings.port)]
        target = f"{self.settings.user}@{self.settings.alias}"
        return shlex.join(["ssh", *port, target])


Meaning: TypeAlias = Callable[[Any, Place], EnvsyncError]


def connecting(error: BaseException, place: Place) -> EnvsyncError:
    """What `error` means when it came while a link to `place` was being opened."""
    if isinstance(error, EnvsyncError):
        if error.server is None:
            error.server = place.server
        return error
    for cls in type(error).__mro__:
        if cls in MEANINGS:
            return MEANINGS[cls](error, place)
    # Whatever else comes out of paramiko's reader was provoked by what the server sent.
    return _protocol(error, place)


def lost(server: str, reason: BaseException | str | None = None) -> ConnectionLost:
    details = [] if not reason else [_reason(reason)]
    return ConnectionLost("the connection was lost", details=details, server=server)


def upload_failed(error: BaseException, server: str, path: str) -> EnvsyncError:
    """What `error` means when it came from the server's sftp while `path` was sent."""
    if isinstance(error, EnvsyncError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left for {path}", server=server)
    return TransferFailed(f"{path} could not be written", details=[_reason(error)], server=server)


def is_dropped(error: BaseException) -> bool:
    """Whether the server hung up before it could have meant us in particular."""
    if isinstance(error, (Dropped, EOFError, ConnectionResetError, BrokenPipeError)):
        return True
    cause = error.__context__
    return _is_banner_error(error) and isinstance(cause, (EOFError, ConnectionResetError))


def timed_out(place: Place, what: str, seconds: float) -> ConnectionFailed:
    return _failed(
        place,
        f"did not {what} within {seconds:g} seconds",
        hint=f"{place.ssh_command}   shows whether it answers at all",
    )


def no_command(place: Place, error: BaseException) -> ConnectionFailed:
    return _failed(
        place,
        "does not start commands",
        f"{place.ssh_command} true   must work: see ForceCommand, the login shell and sftp",
        _reason(error),
    )


def unknown_host_key(
    place: Place, kind: str, fingerprint: str, details: Sequence[str] = ()
) -> HostKeyRefused:
    host, port = place.settings.hostname, place.settings.port
    files = place.settings.user_known_hosts
    file = str(files[0]) if files else "~/.ssh/known_hosts"
    if place.is_direct and place.settings.host_key_alias is None:
        scan = ["ssh-keyscan", "-H", *([] if port == 22 else ["-p", str(port)]), host]
        accept = f"{shlex.join(scan)} >> {shlex.quote(file)}"
    else:
        accept = f"{place.ssh_command}   and answer its question"
    return HostKeyRefused(
        f"the {kind} host key of {place.subject} is not in known_hosts",
        hint=f"check that its fingerprint really is {fingerprint}, then: {accept}",
        details=[f"offered: {kind} {fingerprint}", *details],
        server=place.server,
    )


def changed_host_key(place: Place, name: str, offered: str, known: Sequence[str]) -> HostKeyRefused:
    files = place.settings.user_known_hosts
    file = str(files[0]) if files else "~/.ssh/known_hosts"
    return HostKeyRefused(
        f"the host key of {place.subject} has changed: somebody may be in between",
        hint="if the server was really installed anew: "
        + shlex.join(["ssh-keygen", "-R", name, "-f", file]),
        details=[f"offered: {offered}", *(f"known:   {line}" for line in known)],
        server=place.server,
    )


def revoked_host_key(place: Place, offered: str, where: str) -> HostKeyRefused:
    return HostKeyRefused(
        f"the host key of {place.subject} is marked as revoked",
        hint=f"do not connect; ask who runs it, and see {where}",
        details=[f"offered: {offered}"],
        server=place.server,
    )


def authentication_refused(
    place: Place, tried: Sequence[str], locked: Sequence[str], allowed: Sequence[str]
) -> AuthenticationRefused:
    """`tried`: keys that were offered; `locked`: key files that need a passphrase."""
    settings = place.settings
    port = [] if settings.port == 22 else ["-p", str(settings.port)]
    target = f"{settings.user}@{settings.hostname}"
    copy = shlex.join(["ssh-copy-id", *port, target])
    if locked:
        hint = shlex.join(["ssh-add", locked[0]]) + "   unlocks that key for this session"
    elif tried:
        hint = f"{copy}   puts your key there"
    else:
        hint = f"ssh-keygen -t ed25519   makes a key, {copy}   puts it there"
    details = [f"tried: {name}" for name in tried] or ["no usable key was found"]
    details += [f"needs a passphrase, not tried: {name}" for name in locked]
    if allowed and "publickey" not in allowed:
        details.append(f"it accepts only: {', '.join(allowed)}")
    return AuthenticationRefused(
        f"{place.subject} does not let {settings.user!r} in",
        hint=hint,
        details=details,
        server=place.server,
    )


def too_many_keys(place: Place, tried: Sequence[str]) -> AuthenticationRefused:
    return AuthenticationRefused(
        f"{place.subject} hung up after {len(tried)} keys of {place.settings.user!r}",
        hint=f"name the right key: IdentityFile and IdentitiesOnly yes for "
        f"{place.settings.alias} in ~/.ssh/config",
        details=[f"tried: {name}" for name in tried],
        server=place.server,
    )


def _failed(place: Place, predicate: str, hint: str = "", *details: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"{place.subject} {predicate}", hint=hint, details=details, server=place.server
    )


def _reason(error: BaseException | str) -> str:
    if isinstance(error, str):
        return error
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _is_banner_error(error: BaseException) -> bool:
    return isinstance(error, ssh_exception.SSHException) and "protocol banner" in str(error)


def _not_found(error: Exception, place: Place) -> EnvsyncError:
    name = place.settings.hostname
    return ConnectionFailed(
        f"there is no host named {name!r}",
        hint=f"check the spelling, or: getent hosts {shlex.quote(name)}",
        details=[_reason(error)],
        server=place.server,
    )


def _refused(error: OSError, place: Place) -> EnvsyncError:
    return _failed(
        place,
        "refuses connections",
        "check that sshd runs there and that the port is right",
        _reason(error),
    )


def _silent(error: OSError, place: Place) -> EnvsyncError:
    return _failed(
        place,
        "does not answer",
        f"{place.ssh_command}   shows whether it answers at all",
        _reason(error),
    )


def _unreachable(error: OSError, place: Place) -> EnvsyncError:
    return _failed(
        place, "cannot be reached", "check the network, the address and the jump host",
        _reason(error),
    )  # fmt: skip


def _several(error: ssh_exception.NoValidConnectionsError, place: Place) -> EnvsyncError:
    first = next(iter(error.errors.values()), None)
    return _unreachable(error, place) if first is None else connecting(first, place)


def _hung_up(error: BaseException, place: Place) -> EnvsyncError:
    return _failed(
        place,
        "closed the connection during the handshake",
        "it may be overloaded or may have blocked this address: look at its sshd's log",
        _reason(error),
    )


def _ssh(error: ssh_exception.SSHException, place: Place) -> EnvsyncError:
    if _is_banner_error(error):
        if isinstance(error.__context__, TimeoutError):
            return _failed(place, "accepts connections but sends no SSH banner",
                           "check that an SSH server listens on that port")  # fmt: skip
        return _hung_up(error, place)
    if "Timeout opening channel" in str(error):
        return _failed(place, "opened no session in time", "", _reason(error))
    if "No existing session" in str(error):
        return _failed(place, "did not finish the handshake in time", "", _reason(error))
    return _protocol(error, place)


def _protocol(error: BaseException, place: Place) -> EnvsyncError:
    return _failed(
        place,
        "does not speak SSH as expected",
        f"{place.ssh_command} -v   shows what it says",
        _reason(error),
    )


def _incompatible(error: BaseException, place: Place) -> EnvsyncError:
    return _failed(
        place,
        "has no algorithm in common with this client",
        f"update its sshd; {place.ssh_command} -v   shows what it offers",
        _reason(error),
    )


def _channel(error: ssh_exception.ChannelException, place: Place) -> EnvsyncError:
    if place.is_jump:
        return _failed(place, "does not reach the next host", "check that host's address and "
                       "that the jump host may forward (AllowTcpForwarding)",
                       str(error.text))  # fmt: skip
    return _failed(place, "opens no session", "see MaxSessions in its sshd_config",
                   str(error.text))  # fmt: skip


def _auth(error: BaseException, place: Place) -> EnvsyncError:
    if "timeout" in str(error).lower():
        return _failed(place, "did not answer the authentication in time")
    allowed = getattr(error, "allowed_types", ())
    return authentication_refused(place, [], [], list(allowed))


def _bad_host_key(error: ssh_exception.BadHostKeyException, place: Place) -> EnvsyncError:
    return changed_host_key(
        place, error.hostname, error.key.fingerprint, [error.expected_key.fingerprint]
    )


def _bad_known_hosts(error: BaseException, place: Place) -> EnvsyncError:
    return HostKeyRefused(
        "a line of known_hosts cannot be read",
        hint="mend or remove that line",
        details=[_reason(error)],
        server=place.server,
    )


def _proxy(error: ssh_exception.ProxyCommandFailure, place: Place) -> EnvsyncError:
    return _failed(
        place, "is behind a ProxyCommand that failed", f"try it by hand: {error.command}",
        _reason(error),
    )  # fmt: skip


def _config(error: BaseException, place: Place) -> EnvsyncError:
    return ConnectionFailed(
        "the ssh configuration cannot be read",
        hint=f"ssh -G {shlex.quote(place.settings.alias)}   shows what is wrong with it",
        details=[_reason(error)],
        server=place.server,
    )


def _sftp(error: BaseException, place: Place) -> EnvsyncError:
    return upload_failed(error, place.server, "the file")


MEANINGS: dict[type[BaseException], Meaning] = {
    socket.gaierror: _not_found,
    # Python's own check of a name, before anybody is asked.
    UnicodeError: _not_found,
    ConnectionRefusedError: _refused,
    TimeoutError: _silent,
    EOFError: _hung_up,
    ConnectionResetError: _hung_up,
    BrokenPipeError: _hung_up,
    Dropped: _hung_up,
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
