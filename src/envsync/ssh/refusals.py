"""What a person is told when a server refuses us, or we refuse it.

Whatever the libraries raise is translated in `failures`; these are the sentences.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from envsync.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ConnectionLost,
    HostKeyRefused,
)
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


def lost(server: str, reason: BaseException | str | None = None) -> ConnectionLost:
    details = [] if not reason else [reason_of(reason)]
    return ConnectionLost("the connection was lost", details=details, server=server)


def unreached(place: Place, predicate: str, hint: str = "", *details: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"{place.subject} {predicate}", hint=hint, details=details, server=place.server
    )


def reason_of(error: BaseException | str) -> str:
    if isinstance(error, str):
        return error
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def timed_out(place: Place, what: str, seconds: float) -> ConnectionFailed:
    return unreached(
        place,
        f"did not {what} within {seconds:g} seconds",
        hint=f"{place.ssh_command}   shows whether it answers at all",
    )


def no_command(place: Place, error: BaseException) -> ConnectionFailed:
    return unreached(
        place,
        "does not start commands",
        f"{place.ssh_command} true   must work: see ForceCommand, the login shell and sftp",
        reason_of(error),
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


def known_hosts_unreadable(file: str, reason: str) -> HostKeyRefused:
    return HostKeyRefused(
        f"{file} cannot be read",
        hint=shlex.join(["ssh-keygen", "-l", "-f", file]) + "   shows what is wrong with it",
        details=[reason] if reason else [],
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
