"""The errors for a person where a server refuses us, or we refuse it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeVar

from envsync.errors import AuthenticationRefused, HostKeyRefused
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_settings import SESSIONS_AGENT, HostSettings

_RefusedT = TypeVar("_RefusedT", HostKeyRefused, AuthenticationRefused)


def _refused(
    kind: type[_RefusedT], place: HopPlace, message: str, hint: str, details: Sequence[str]
) -> _RefusedT:
    error = kind(message, hint=hint, details=details, server=place.server)
    error.is_about_server = not place.is_jump
    return error


def unknown_host_key(
    place: HopPlace, kind: str, fingerprint: str, details: Sequence[str] = ()
) -> HostKeyRefused:
    return _refused(
        HostKeyRefused,
        place,
        f"the {kind} host key of {place.subject} is not in known_hosts",
        hint=f"compare that fingerprint with its administrator's, then: {_accept(place)}",
        details=[f"its fingerprint: {fingerprint}", *details],
    )


def _accept(place: HopPlace) -> str:
    """Return the step, mostly a command, that makes the host's key known."""
    settings = place.settings
    file = next((file for file in settings.user_known_hosts if _can_hold(file)), None)
    if file is None:
        return f"set UserKnownHostsFile to a file for {settings.alias} in the ssh configuration"
    if not place.is_direct or settings.host_key_alias is not None:
        return f"log in and answer its question: {place.ssh_command}"
    port = [] if settings.port == 22 else ["-p", str(settings.port)]
    scan = shlex.join(["ssh-keyscan", "-H", *port, settings.hostname])
    return "; ".join([*_make(file.parent), f"{scan} >> {shlex.quote(str(file))}"])


def _make(directory: Path) -> list[str]:
    """Return the command, if needed, that makes `~/.ssh`, and the home if that is missing too."""
    if os.access(directory, os.F_OK):
        return []
    parents = [] if os.access(directory.parent, os.F_OK) else ["-p"]
    return [shlex.join(["mkdir", *parents, "-m", "700", str(directory)])]


def _can_hold(file: Path) -> bool:
    """Return whether known_hosts lines can be kept in `file`; many configurations use /dev/null."""
    return not os.access(file, os.F_OK) or file.is_file()


def changed_host_key(
    place: HopPlace, name: str, offered: str, known: Sequence[str], files: Collection[str]
) -> HostKeyRefused:
    """Return the error for a changed key; `known` are its old keys, `files` the files with them."""
    remove = [shlex.join(["ssh-keygen", "-R", name, "-f", file]) for file in sorted(files)]
    return _refused(
        HostKeyRefused,
        place,
        f"the host key of {place.subject} has changed: the connection may be intercepted",
        hint=f"if the server was really reinstalled: {'; '.join(remove)}",
        details=[f"offered: {offered}", *(f"known:   {line}" for line in known)],
    )


def revoked_host_key(place: HopPlace, offered: str, where: str) -> HostKeyRefused:
    return _refused(
        HostKeyRefused,
        place,
        f"the host key of {place.subject} is marked as revoked",
        hint=f"do not connect; ask its administrator, and see {where}",
        details=[f"offered: {offered}"],
    )


def invalid_host_certificate(place: HopPlace, offered: str, reason: str) -> HostKeyRefused:
    """Return the error for a certificate of a known authority that `ssh` refuses."""
    return _refused(
        HostKeyRefused,
        place,
        f"the host certificate of {place.subject} is not valid: {reason}",
        hint="have its administrator issue another one",
        details=[f"offered: {offered}"],
    )


def known_hosts_unreadable(file: str, reason: str) -> HostKeyRefused:
    return HostKeyRefused(
        f"{file} cannot be read",
        hint="see what is wrong with it: " + shlex.join(["ssh-keygen", "-l", "-f", file]),
        details=[reason] if reason else [],
    )


def authentication_refused(
    place: HopPlace,
    tried: Sequence[str],
    locked: Sequence[str],
    allowed: Sequence[str],
    *,
    has_agent: bool = False,
) -> AuthenticationRefused:
    """Return the error for a user who is not let in.

    `tried` are the keys that were offered, `locked` the key files that need a passphrase, `allowed`
    the authentication methods that the server offers, empty if it did not say. `has_agent` says
    whether an agent answered.
    """
    settings = place.settings
    takes_passwords = not allowed or not {"password", "keyboard-interactive"}.isdisjoint(allowed)
    if locked:
        hint = _unlock(settings, locked[0], has_agent=has_agent)
    elif takes_passwords:
        make = "make a key and put it there: ssh-keygen -t ed25519 && "
        hint = ("put your key there: " if tried else make) + place.copy_command(tried)
    else:
        hint = "" if tried else "make a key (ssh-keygen -t ed25519), then "
        hint += f"have your public key added to ~{settings.user}/.ssh/authorized_keys there: "
        hint += "it accepts no passwords, so ssh-copy-id cannot do it"
    details = [f"tried: {name}" for name in tried] or ["no usable key was found"]
    details += [f"needs a passphrase, not tried: {name}" for name in locked]
    if allowed and "publickey" not in allowed:
        details.append(f"it accepts only: {', '.join(allowed)}")
    error = _refused(
        AuthenticationRefused,
        place,
        f"{place.subject} does not let {settings.user!r} in",
        hint=hint,
        details=details,
    )
    error.lacks_usable_key = bool(locked) or not tried
    return error


def _unlock(settings: HostSettings, key: str, *, has_agent: bool) -> str:
    """Return how a key file that needs a passphrase can be used after all."""
    if settings.identity_agent not in (None, SESSIONS_AGENT):
        # Whatever `ssh-add` talks to, no other agent is asked.
        return (
            f"IdentityAgent is {settings.identity_agent} for {settings.alias} in the ssh "
            "configuration: name an agent there that has the key, or use a key without a passphrase"
        )
    add = shlex.join(["ssh-add", key])
    if not has_agent:
        return f'start an agent, and unlock that key: eval "$(ssh-agent -s)" && {add}'
    return f"unlock that key for this session: {add}"


def account_refused(place: HopPlace, words: Sequence[str]) -> AuthenticationRefused:
    """Return the error for a server that said something (`words`) and closed the connection."""
    user = place.settings.user
    return _refused(
        AuthenticationRefused,
        place,
        f"{place.subject} closes the connection of {user!r} during the login",
        hint=f"{user!r} may not be allowed to log in there at present: check its sshd's log",
        details=[f"it says: {line}" for line in words],
    )


def too_many_keys(place: HopPlace, tried: Sequence[str]) -> AuthenticationRefused:
    return _refused(
        AuthenticationRefused,
        place,
        f"{place.subject} closed the connection after {len(tried)} keys of {place.settings.user!r}",
        hint=f"set the right key: IdentityFile and IdentitiesOnly yes for "
        f"{place.settings.alias} in ~/.ssh/config",
        details=[f"tried: {name}" for name in tried],
    )
